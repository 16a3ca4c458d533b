"""What a process does with the messages it receives: move the state, and so wake those who wait."""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ray.abc.transport import Frame
from ray.clock import perf_counter
from ray.exceptions import RemoteProtocolError
from ray.messages import codec, node, wire
from ray.protocol.references import PENDING
from ray.runtime.owner.actor_client import ActorClient
from ray.runtime.owner.inspection import answer
from ray.runtime.owner.records import Link, TaskRecord
from ray.runtime.process.node_link import NODE_DIED, NodeLink
from ray.runtime.process.peers import DROPPED, Peer
from ray.runtime.process.polling import Event
from ray.runtime.process.refusals import Refusals
from ray.runtime.process.telling import say

if TYPE_CHECKING:
    from ray.runtime.owner.owner import OwnerRuntime

Handler: TypeAlias = Callable[[Any, Any, Sequence[Frame]], None]

#: While event loops await objects, messages are taken for so long at a time.
SLICE_S = 0.001

#: Messages that may be handled twice: what the first time has begun, the second time ends. A borrower takes a value
#: that comes twice once, and returns the refs that came along with the second.
_REPEATABLE = {node.Granted, node.ActorUpdate, wire.Fetch, wire.Yielded}


class Reader:
    """Maps messages to the parts of a runtime."""

    def __init__(self, runtime: OwnerRuntime, rests: list[Callable[[], None]]) -> None:
        self._runtime = runtime
        self._refusals = Refusals(say)
        #: What has arrived and is not taken yet; first in, first out.
        self.pending: deque[Event] = deque()
        #: Of messages that tell many things, what goes on with the rest of them.
        self.rests = rests
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
            wire.Yielded: lambda peer, message, frames: runtime.on_yielded(peer, message, frames, self.claim),
            wire.Began: lambda peer, message, frames: runtime.clock.began(peer, message),
            node.Question: lambda peer, message, frames: peer.send(answer(runtime.table, message)),
            wire.Hello: lambda peer, message, frames: None,
        }
        self.node_handlers: dict[type, Callable[[Any], None]] = {
            node.Granted: tasks.granted,
            node.Revoke: lambda message: tasks.revoked(message.lease, soft=message.soft),
            node.Infeasible: tasks.infeasible,
            node.LeaseRecalled: tasks.recalls.recalled,
            node.Overdue: runtime.clock.told,
            node.CallRevoked: runtime.cancels.revoked,
            node.LeaseEnded: tasks.lease_ended,
            node.ActorUpdate: calls.updated,
            node.Pong: lambda message: None,
            node.Collect: lambda message: runtime.collecting.begin(),
            node.Answer: lambda message: runtime.node.answered(message),  # noqa: PLW0108 - attached later
            wire.Hello: lambda message: None,
        }

    def take(self) -> bool:
        """Take what is pending and do what is due; called under the lock by the thread that polls.

        Returns whether that was all. An event loop that awaits objects would have to wait for the interpreter until all
        of a large batch is taken: the thread that polls lets others run in between.

        A finaliser or a signal handler may interrupt this and call it again: everything is taken once, in order, except
        that a message which is being handled is finished last.
        """
        runtime = self._runtime
        end = perf_counter() + SLICE_S if runtime.table.listeners else math.inf
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
        if runtime.behind:
            runtime.recover()
        runtime.timers.run_due()
        runtime.forget_rest()
        views = runtime.objects.views
        if views.held:
            views.trim()
        if runtime.table.dropped:
            runtime.objects.free(runtime.table.collect())
        runtime.after_events()
        return True

    def claim(self, frames: Sequence[Frame]) -> bool:
        """Have nobody who interrupts the caller handle this message again; False if somebody has."""
        pending = self.pending
        if not pending or pending[0][1] is not frames:
            return False
        pending.popleft()
        return True

    def finish(
        self,
        inflight: dict[bytes, TaskRecord],
        message: wire.Replies,
        frames: Sequence[Frame],
        peer: Peer | None,
        retry: Callable[[TaskRecord], None],
    ) -> None:
        """End the tasks that a message tells of; a call that interrupts this goes on with the rest of them."""
        if len(message.done) == 1:
            self._finish(inflight, message.done, frames, peer, retry)
            return
        ends = iter(message.done)
        rest = functools.partial(self._finish, inflight, ends, frames, peer, retry)
        self.rests.append(rest)
        try:
            rest()
        finally:
            self.rests.remove(rest)

    def _finish(
        self,
        inflight: dict[bytes, TaskRecord],
        ends: Iterable[wire.Done],
        frames: Sequence[Frame],
        peer: Peer | None,
        retry: Callable[[TaskRecord], None],
    ) -> None:
        finish = self._runtime.finish
        record = None
        try:
            for done in ends:
                record = inflight.pop(done.id, None)
                if record is not None and finish(record, done, frames, peer):
                    retry(record)
        except Exception:  # that was no reply: the end of the worker decides what comes of the task
            if record is not None and any(entry.status == PENDING for entry in record.entries):
                record.done = False
                inflight[record.id] = record
            raise

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
                        self._lost(context)
                    else:  # those behind it need to know whose they are
                        self._runtime.peers.accept(connection, frames, self._lost)
                        if pending and pending[0] is event:
                            pending.popleft()
                return
            message = codec.decode(frames)
            kind = type(message)
            is_peer = type(context) is Peer
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
            if handler is None:
                raise RemoteProtocolError(f"unexpected {kind.__name__}")
            if is_peer:
                handler(context, message, frames)
            else:
                handler(message)
            if is_repeatable and pending and pending[0] is event:
                pending.popleft()
        except Exception as error:  # costs nobody but the peer
            if pending and pending[0] is event:
                pending.popleft()
            if context is DROPPED:
                return
            self._refusals.note(error)
            connection.abort()
            connection.context = DROPPED
            if type(context) is NodeLink:
                self._runtime.node_lost(f"a message of the node manager could not be handled: {error!r}")
            else:
                self._lost(context)

    def _lost(self, context: Any) -> None:
        runtime = self._runtime
        if type(context) is NodeLink:
            runtime.node_lost(NODE_DIED)
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
        else:  # its lease has ended, and what became of its tasks is decided
            self._runtime.objects.drop_refs(ref for done in message.done for refs in done.refs for ref in refs)

    def _link(self, peer: Peer, handle: Callable[[Link, Any], None], message: Any) -> None:
        if type(peer.sink) is Link:
            handle(peer.sink, message)

    def _cancel_made(self, peer: Peer, message: wire.CancelMade, frames: Sequence[Frame]) -> None:
        entry = self._runtime.table.entries.get(message.id)
        if entry is not None and entry.owner is None:
            self._runtime.cancel_entry(entry, message.force, message.recursive, message.again)
