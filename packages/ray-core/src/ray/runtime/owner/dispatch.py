"""Which part of an owner takes which message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ray.abc.transport import Frame
from ray.messages import finding, node, wire
from ray.runtime.owner.actor_client import ActorClient
from ray.runtime.owner.inspection import answer
from ray.runtime.owner.records import Link

if TYPE_CHECKING:
    from ray.protocol.references import ReferenceTable
    from ray.runtime.owner.actor_calls import ActorCalls
    from ray.runtime.owner.borrowing import Borrowing
    from ray.runtime.owner.cancelling import Cancelling
    from ray.runtime.owner.cancels import Cancels
    from ray.runtime.owner.collecting import Collecting
    from ray.runtime.owner.inbox import Handler, NodeHandler
    from ray.runtime.owner.leasing import Leasing
    from ray.runtime.owner.lending import Lending
    from ray.runtime.owner.overdue import Overdue
    from ray.runtime.owner.reachable import Reachable
    from ray.runtime.owner.reconnecting import Reconnecting
    from ray.runtime.owner.streams import Streams
    from ray.runtime.owner.values import Values
    from ray.runtime.process.node_link import NodeLink
    from ray.runtime.process.peers import Peer


def peer_handlers(
    table: ReferenceTable,
    leasing: Leasing,
    calls: ActorCalls,
    borrowing: Borrowing,
    lending: Lending,
    streams: Streams,
    cancelling: Cancelling,
    clock: Overdue,
    claim: Callable[[Sequence[Frame]], bool],
    take_late: Callable[[Sequence[wire.Done], Peer], None],
    reconnecting: Reconnecting,
) -> dict[type, Handler]:
    """The handlers of what other processes send; ``claim``: see ``Inbox``, ``take_late``: see ``Outcomes``."""

    def replies(peer: Peer, message: wire.Replies, frames: Sequence[Frame]) -> None:
        sink = peer.sink
        if type(sink) is Link:
            leasing.on_replies(sink, message, frames)
        elif type(sink) is ActorClient:
            calls.on_replies(sink, message, frames)
        else:  # its lease has ended, and what became of its tasks is decided
            take_late(message.done, peer)

    def returned(peer: Peer, message: wire.Returned, frames: Sequence[Frame]) -> None:
        if type(peer.sink) is Link:
            leasing.on_returned(peer.sink, message)

    def unblocked(peer: Peer, message: wire.Unblocked, frames: Sequence[Frame]) -> None:
        if type(peer.sink) is Link:
            leasing.on_unblocked(peer.sink)

    def cancel_made(peer: Peer, message: wire.CancelMade, frames: Sequence[Frame]) -> None:
        entry = table.entries.get(message.id)
        if entry is not None and entry.owner is None:
            cancelling.cancel_entry(entry, message.force, message.recursive, message.again)

    return {
        wire.Replies: replies,
        wire.Returned: returned,
        wire.Unblocked: unblocked,
        wire.Fetch: lending.on_fetch,
        wire.Fetched: borrowing.on_fetched,
        wire.Credit: borrowing.on_credit,
        wire.Holds: borrowing.on_holds,
        wire.CancelMade: cancel_made,
        wire.Yielded: lambda peer, message, frames: streams.on_yielded(peer, message, frames, claim),
        wire.Began: lambda peer, message, frames: clock.began(peer, message),
        node.Question: lambda peer, message, frames: peer.send(answer(table, message)),
        wire.Hello: lambda peer, message, frames: None,
        wire.Got: reconnecting.on_got,
        wire.GoesOn: reconnecting.on_resumed,
        wire.Forgotten: reconnecting.on_forgotten,
    }


def node_handlers(
    leasing: Leasing,
    calls: ActorCalls,
    cancels: Cancels,
    clock: Overdue,
    collecting: Collecting,
    reachable: Reachable,
    node_link: NodeLink,
    values: Values,
) -> dict[type, NodeHandler]:
    """The handlers of what the node manager sends to every owner."""

    def nothing(message: Any) -> None: ...

    def welcome(message: wire.Welcome) -> None:
        values.serves = message.serves

    return {
        node.Granted: leasing.granted,
        node.Revoke: leasing.revoked,
        node.Infeasible: leasing.infeasible,
        node.LeaseRecalled: leasing.recalled,
        node.Overdue: clock.told,
        node.CallRevoked: cancels.revoked,
        node.LeaseEnded: leasing.lease_ended,
        node.ActorUpdate: calls.updated,
        node.Pong: nothing,
        node.Collect: lambda message: collecting.begin(),
        finding.ListenFar: reachable.listen,
        node.Answer: node_link.answered,
        wire.Welcome: welcome,
    }
