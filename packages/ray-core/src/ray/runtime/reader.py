"""The one thread of a process that receives: it takes messages, moves the state and wakes those who wait."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ray.abc.transport import Connection, Frame
from ray.exceptions import RemoteProtocolError
from ray.messages import codec, node, wire
from ray.runtime.calls import ActorClient
from ray.runtime.node_link import BEAT_S, NodeLink
from ray.runtime.peers import Peer
from ray.runtime.records import Link

if TYPE_CHECKING:
    from ray.runtime.owner import OwnerRuntime

Handler = Callable[[Any, Any, Sequence[Frame]], None]


class Reader:
    """Owns the thread that polls the transport."""

    def __init__(self, runtime: OwnerRuntime) -> None:
        self._runtime = runtime
        self._stopping = False
        self._next_beat = 0.0
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
        }
        self.node_handlers: dict[type, Callable[[Any], None]] = {
            node.Granted: tasks.granted,
            node.Revoke: lambda message: tasks.revoked(message.lease),
            node.LeaseEnded: tasks.lease_ended,
            node.ActorUpdate: calls.updated,
            node.Pong: lambda message: runtime.node.pong(),
            node.Answer: lambda message: runtime.node.answered(message),
            wire.Hello: lambda message: None,
        }
        self._thread = threading.Thread(target=self._run, name="ray-reader", daemon=True)

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def stop(self) -> None:
        """Leave the loop soon; does not wait if called from the thread itself."""
        self._stopping = True
        self._runtime.transport.wake()
        if threading.current_thread() is not self._thread and self._thread.is_alive():
            self._thread.join(2.0)

    def _run(self) -> None:
        runtime = self._runtime
        poll, lock, timers, table = runtime.transport.poll, runtime.lock, runtime.timers, runtime.table
        try:
            while not self._stopping:
                timeout_s = timers.timeout_s(runtime.patience_s())
                events = poll(timeout_s)
                if self._stopping:
                    return
                with lock:
                    for connection, frames in events:
                        self._take(connection, frames)
                    del events
                    timers.run_due()
                    if table.dropped:
                        runtime.collect()
                    runtime.after_events()
                self._beat()
        except BaseException:
            if not self._stopping:
                text = traceback.format_exc()
                sys.stderr.write(f"[ray] internal error in the reader thread:\n{text}")
                runtime.node_lost(f"internal error in the reader thread: {text.splitlines()[-1]}")

    def _beat(self) -> None:
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + BEAT_S
            if not self._runtime.node.beat():
                self._runtime.node_lost("its node manager does not answer (stopped, or overloaded)")

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
                node_handler = self.node_handlers.get(kind)
                if node_handler is not None:
                    node_handler(message)
                    return
            raise RemoteProtocolError(f"unexpected {kind.__name__}")
        except RemoteProtocolError:
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
            self._runtime.cancel_entry(entry, message.force, message.recursive)
