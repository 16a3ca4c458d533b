"""What a process does with the messages it receives: move the state, and so wake what waits."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ray.abc.transport import Connection, Frame
from ray.clock import perf_counter
from ray.exceptions import RemoteProtocolError
from ray.messages import codec, node, wire
from ray.protocol.conversations import number_of
from ray.runtime.process.kept_connection import opened
from ray.runtime.process.node_link import NODE_DIED, NodeLink
from ray.runtime.process.own_faults import DROPPED
from ray.runtime.process.peers import Peer
from ray.runtime.process.polling import Event
from ray.runtime.process.refusals import Refusals
from ray.runtime.process.telling import say

if TYPE_CHECKING:
    from ray.protocol.references import ReferenceTable
    from ray.runtime.process.peers import PeerTable

#: Takes a message from a peer, with its buffers.
Handler: TypeAlias = Callable[[Any, Any, Sequence[Frame]], None]
NodeHandler: TypeAlias = Callable[[Any], None]

#: While event loops await objects, messages are taken for so long at a time.
SLICE_S = 0.001

#: Messages that may be handled twice: what the first time has begun, the second time ends. A borrower takes a value
#: that comes twice once, and returns the refs that came along with the second.
_REPEATABLE = {node.Granted, node.ActorUpdate, wire.Fetch, wire.Yielded}


class Losses(Protocol):
    """What follows from the losses of connections."""

    def node_lost(self, reason: str) -> None: ...
    def peer_lost(self, peer: Peer) -> None: ...


class Conversations(Protocol):
    """What is said between this process and those of other nodes, by one connection after another."""

    def broken(self, peer: Peer, connection: Connection) -> bool:
        """A connection is lost; False if the peer is lost with it."""

    def took(self, peer: Peer, number: int, frames: Sequence[Frame]) -> None:
        """A message of that number was taken."""


class Inbox:
    """Gives messages to the parts of an owner."""

    def __init__(
        self,
        table: ReferenceTable,
        peers: PeerTable,
        losses: Losses,
        conversations: Conversations,
        handlers: dict[type, Handler],
        node_handlers: dict[type, NodeHandler],
        rests: list[Callable[[], None]],
        after_batch: Callable[[], None],
    ) -> None:
        """Make one.

        Args:
            table: of the process.
            peers: the others.
            losses: as it says.
            conversations: likewise.
            handlers: {message type: what takes it from a peer}.
            node_handlers: the same for the node manager; drivers and workers add theirs.
            rests: of messages that tell many things, what goes on with the rest of them.
            after_batch: does what is due when all that has arrived is taken.
        """
        self._table = table
        self._peers = peers
        self._losses = losses
        self.conversations = conversations
        self.handlers = handlers
        self.node_handlers = node_handlers
        self.rests = rests
        self._after_batch = after_batch
        self._refusals = Refusals(say)
        #: What has arrived and is not taken yet; first in, first out.
        self.pending: deque[Event] = deque()

    def take(self) -> bool:
        """Take what is pending and do what is due; called under the lock by the thread that polls.

        Returns whether that was all. An event loop that awaits objects would have to wait for the interpreter until all
        of a large batch is taken: the thread that polls lets others run in between.

        A finaliser or a signal handler may interrupt this and call it again: everything is taken once, in order, except
        that a message which is being handled is finished last.
        """
        end = perf_counter() + SLICE_S if self._table.listeners else math.inf
        pending = self.pending
        if self.rests:
            for rest in self.rests[:]:
                rest()
        while True:
            if not pending:  # not in the loop's head: a call that interrupts this may come behind that
                break
            self._take(pending[0])
            if pending and end < math.inf and perf_counter() > end:
                return False
        self._after_batch()
        return True

    def claim(self, frames: Sequence[Frame]) -> bool:
        """Keep calls that interrupt the caller from handling this message again; False if one has handled it."""
        pending = self.pending
        if not pending or pending[0][1] is not frames:
            return False
        connection, _ = pending.popleft()
        context = connection.context
        if type(context) is Peer and context.talk is not None:
            self._took(context, frames)
        return True

    def _took(self, peer: Peer, frames: Sequence[Frame]) -> None:
        number = number_of(frames[0])
        if number:
            self.conversations.took(peer, number, frames)

    def _take(self, event: Event) -> None:
        """Take the first of what is pending, and remove it once it is handled or nobody else could handle it again."""
        pending = self.pending
        connection, frames = event
        context = connection.context
        try:
            if frames is None or context is None:
                if pending and pending[0] is event:
                    if frames is None:
                        pending.popleft()
                        if not (
                            type(context) is Peer and context.talk and self.conversations.broken(context, connection)
                        ):
                            self._lost(context)
                    else:  # those behind it need to know whose they are
                        self._peers.accept(connection, frames, self._lost)
                        if pending and pending[0] is event:
                            pending.popleft()
                return
            is_peer = type(context) is Peer
            talk = context.talk if is_peer else None
            if talk is None:
                message = codec.decode(frames)
            else:
                number, said = opened(frames)
                if number and not (said and talk.conversation.is_new(number)):  # it came before, or there is nothing
                    if pending and pending[0] is event:
                        pending.popleft()
                        self.conversations.took(context, number, frames)
                    return
                message = codec.decode(said)
            kind = type(message)
            handler: Any = None
            if is_peer:
                handler = self.handlers.get(kind)
            elif type(context) is NodeLink:
                context.heard()
                handler = self.node_handlers.get(kind)
            if not pending or pending[0] is not event:
                return  # a call that has interrupted this one has taken it
            is_repeatable = kind in _REPEATABLE  # what a call that interrupts this waits for may hang on it
            if not is_repeatable:
                pending.popleft()
                if talk is not None:
                    self._took(context, frames)
            if handler is None:
                raise RemoteProtocolError(f"unexpected {kind.__name__}")
            if is_peer:
                handler(context, message, frames)
            else:
                handler(message)
            if is_repeatable and pending and pending[0] is event:
                pending.popleft()
                if talk is not None:
                    self._took(context, frames)
        except Exception as error:  # costs nobody but the peer
            if pending and pending[0] is event:
                pending.popleft()
            if context is DROPPED:
                return
            self._refusals.note(error)
            if type(context) is Peer and context.talk is not None:
                context.talk.forget()
            connection.abort()
            connection.context = DROPPED
            if type(context) is NodeLink:
                self._losses.node_lost(f"a message of the node manager could not be handled: {error!r}")
            else:
                self._lost(context)

    def _lost(self, context: Any) -> None:
        if type(context) is NodeLink:
            self._losses.node_lost(NODE_DIED)
        elif type(context) is Peer:
            self._losses.peer_lost(context)
