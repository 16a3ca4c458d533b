"""What a process does with the messages it receives: move the state, and so wake those who wait."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ray.abc.transport import Connection, Frame
from ray.exceptions import RemoteProtocolError
from ray.messages import codec, node, wire
from ray.runtime.calls import ActorClient
from ray.runtime.inspection import answer
from ray.runtime.node_link import NodeLink
from ray.runtime.peers import Peer
from ray.runtime.records import Link
from ray.runtime.refusals import Refusals

if TYPE_CHECKING:
    from ray.runtime.owner import OwnerRuntime

Handler: TypeAlias = Callable[[Any, Any, Sequence[Frame]], None]
#: Messages that have arrived; None for the frames when the connection is lost.
Events: TypeAlias = Sequence[tuple[Connection, Sequence[Frame] | None]]

#: While event loops await objects, messages are taken for so long at a time.
SLICE_S = 0.001


class Reader:
    """Maps messages to the parts of a runtime."""

    def __init__(self, runtime: OwnerRuntime) -> None:
        self._runtime = runtime
        self._refusals = Refusals(lambda text: print(f"[ray] {text}", file=sys.stderr, flush=True))
        tasks, calls, objects = runtime.tasks, runtime.calls, runtime.objects
        #: {message type: handler(peer or node link, message, frames)}
        self.handlers: dict[type, Handler] = {
            wire.Replies: self._replies,
            wire.Returned: lambda peer, message, frames: self._link(peer, tasks.on_returned, message),
            wire.Unblocked: lambda peer, message, frames: self._link(peer, lambda link, _: tasks.on_unblocked(link), 0),
            wire.Fetch: objects.on_fetch,
            wire.Fetched: objects.on_fetched,
            wire.Credit: objects.on_credit,
            wire.CancelMade: self._cancel_made,
            wire.Yielded: runtime.on_yielded,
            node.Question: lambda peer, message, frames: peer.send(answer(runtime.table, message)),
        }
        self.node_handlers: dict[type, Callable[[Any], None]] = {
            node.Granted: tasks.granted,
            node.Revoke: lambda message: tasks.revoked(message.lease, soft=message.soft),
            node.Infeasible: tasks.infeasible,
            node.LeaseRecalled: tasks.recalls.recalled,
            node.LeaseEnded: tasks.lease_ended,
            node.ActorUpdate: calls.updated,
            node.Pong: lambda message: None,
            node.Collect: lambda message: runtime.collecting.begin(),
            node.Answer: lambda message: runtime.node.answered(message),  # noqa: PLW0108 - attached later
            wire.Hello: lambda message: None,
        }

    def take(self, events: Events) -> Events:
        """Take a batch of messages and do what is due; called under the lock by whoever polls.

        Returns what is left of it. An event loop that awaits objects would have to wait for the interpreter until all
        of a large batch is taken: whoever polls lets others run in between.
        """
        runtime = self._runtime
        end = time.perf_counter() + SLICE_S if runtime.table.listeners else math.inf
        for taken, (connection, frames) in enumerate(events, 1):
            self._take(connection, frames)
            if taken < len(events) and time.perf_counter() > end:
                return events[taken:]
        runtime.timers.run_due()
        runtime.forget_rest()
        runtime.objects.views.trim()
        if runtime.table.dropped:
            runtime.collect()
        runtime.after_events()
        return ()

    def _take(self, connection: Connection, frames: Sequence[Frame] | None) -> None:
        context = connection.context
        if frames is None:
            self._lost(context)
            return
        try:
            if context is None:
                self._runtime.peers.accept(connection, frames)
                return
            message = codec.decode(frames)
            kind = type(message)
            if type(context) is Peer:
                handler = self.handlers.get(kind)
                if handler is not None:
                    handler(context, message, frames)
                    return
            elif type(context) is NodeLink:
                context.heard()
                node_handler = self.node_handlers.get(kind)
                if node_handler is not None:
                    node_handler(message)
                    return
            raise RemoteProtocolError(f"unexpected {kind.__name__}")
        except Exception as error:  # costs nobody but the peer
            self._refusals.note(error)
            connection.abort()
            self._lost(context)

    def _lost(self, context: Any) -> None:
        runtime = self._runtime
        if type(context) is NodeLink:
            runtime.node_lost("the node manager process has died")
        elif type(context) is Peer:
            runtime.peers.forget(context)
            sink = context.sink
            if type(sink) is Link:
                runtime.tasks.peer_lost(sink)
            elif type(sink) is ActorClient:
                runtime.calls.peer_lost(sink)
            runtime.peer_lost(context)

    def _replies(self, peer: Peer, message: wire.Replies, frames: Sequence[Frame]) -> None:
        sink = peer.sink
        if type(sink) is Link:
            self._runtime.tasks.on_replies(sink, message, frames)
        elif type(sink) is ActorClient:
            self._runtime.calls.on_replies(sink, message, frames)

    def _link(self, peer: Peer, handle: Callable[[Link, Any], None], message: Any) -> None:
        if type(peer.sink) is Link:
            handle(peer.sink, message)

    def _cancel_made(self, peer: Peer, message: wire.CancelMade, frames: Sequence[Frame]) -> None:
        entry = self._runtime.table.entries.get(message.id)
        if entry is not None and entry.owner is None:
            self._runtime.cancel_entry(entry, message.force, message.recursive, message.again)
