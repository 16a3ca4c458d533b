"""A layer that makes a transport of one that loses, doubles, delays and reorders messages.

The built-in transports and ZeroMQ do none of that within a connection and do not need it. Both ends must use it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ray.abc.transport import Connection, Find, Frame, Transport
from ray.clock import monotonic
from ray.exceptions import RemoteProtocolError
from ray.protocol.delivery import Delivery, Header

_Message: TypeAlias = "Sequence[Frame]"
_CLOSE_FLUSH_S = 0.5
_LOOK_S = 0.005


class ReliableConnection(Connection):
    """One end: what was sent is kept until the peer has confirmed it."""

    def __init__(self, inner: Connection, transport: ReliableTransport) -> None:
        self.inner = inner
        self.context: Any = None
        self.delivery: Delivery[_Message] = Delivery()
        self._transport = transport
        self._lost = False

    @property
    def closed(self) -> bool:  # type: ignore[override]
        return self._lost or self.inner.closed

    @property
    def dialling(self) -> bool:  # type: ignore[override]
        return self.inner.dialling

    @property
    def failure(self) -> ConnectionError | None:  # type: ignore[override]
        return self.inner.failure

    def send(self, frames: Sequence[Frame]) -> None:
        message: list[Any] = list(frames)
        if self.closed or message[0] is None:
            return
        if isinstance(frames, list):
            frames[0] = None
        self._transport.send(self, message)

    def close(self) -> None:
        self._transport.flush([self])
        self.abort()

    def abort(self) -> None:
        self._transport.forget(self)
        self.inner.abort()

    def lose(self) -> None:
        """The peer is gone."""
        self._lost = True

    @property
    def queued_bytes(self) -> int:
        if self.closed:
            return 0
        return sum(memoryview(frame).nbytes for frames in self.delivery.unconfirmed for frame in frames)


class ReliableTransport(Transport):
    """Wraps a transport, which it owns from then on.

    Finalisers and signal handlers must not wait inside calls of it: these keep its lock, and the polling thread waits
    for that.
    """

    def __init__(self, inner: Transport, close_s: float = _CLOSE_FLUSH_S) -> None:
        """Wrap.

        Args:
            inner: any transport; a message of it may be lost, doubled, late or out of order.
            close_s: how long closing waits for the peer to confirm.
        """
        self.name = inner.name
        self.wait_code = inner.wait_code
        self._inner = inner
        self._close_s = close_s
        self._lock = threading.RLock()
        #: Held by the thread that polls the inner transport.
        self._polling = threading.RLock()
        self._connections: set[ReliableConnection] = set()
        self._inbox: deque[tuple[Connection, Sequence[Frame] | None]] = deque()
        #: What the next ``poll`` to end returns.
        self._taken: list[tuple[Connection, Sequence[Frame] | None]] = []
        #: Packets that are not looked into yet.
        self._arrived: deque[tuple[Connection, Sequence[Frame] | None]] = deque()
        #: Until when the thread that polls will wait.
        self._until = 0.0

    def listen(self, hint: str) -> str:
        return self._inner.listen(hint)

    def listen_far(self, address: str) -> str:
        return self._inner.listen_far(address)

    def node_in(self, address: str) -> int:
        return self._inner.node_in(address)

    def find_with(self, find: Find) -> None:
        self._inner.find_with(find)

    def contacts(self, address: str) -> Sequence[str]:
        return self._inner.contacts(address)

    def dial(self, address: str, timeout_s: float = 5.0) -> ReliableConnection:
        return self._wrapped(self._inner.dial(address, timeout_s))

    def _wrapped(self, inner: Connection) -> ReliableConnection:
        with self._lock:
            connection = inner.context  # the layer is the inner connection's only user
            if connection is None:
                connection = inner.context = ReliableConnection(inner, self)
                self._connections.add(connection)
            assert isinstance(connection, ReliableConnection)
            return connection

    def send(self, connection: ReliableConnection, frames: _Message) -> None:
        """Send a message of a connection, and again until it is confirmed."""
        with self._lock:
            connection.delivery.send(frames)
            self._transmit(connection, monotonic())
            early = connection.delivery.due() < self._until
        if early:
            self._inner.wake()

    def _transmit(self, connection: ReliableConnection, now: float) -> None:
        for header, message in connection.delivery.packets(now):
            connection.inner.send([header.encode(), *(message or ())])

    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        with self._polling:
            self._poll_inner(0.0 if self._inbox or self._taken or self._arrived else timeout_s)
        rest: list[tuple[Connection, Sequence[Frame] | None]] = []
        with contextlib.suppress(IndexError):  # it is empty
            self._taken.extend(iter(self._inbox.popleft, None))
        # In one go: a call that interrupts this one finds them either all or not at all.
        events = self._taken
        self._taken = rest
        return events

    def _poll_inner(self, timeout_s: float | None) -> None:
        """Take what arrives, confirm it, and send again what is due."""
        now = monotonic()
        with self._lock:
            due = min((connection.delivery.due() for connection in self._connections), default=float("inf"))
            self._until = min(due, float("inf") if timeout_s is None else now + timeout_s)
        left_s = None if self._until == float("inf") else max(0.0, self._until - now)
        self._arrived.extend(self._inner.poll(left_s))
        with self._lock:
            self._until = 0.0
            while True:
                if not self._arrived:  # not in the loop's head: a call that interrupts this may come behind that
                    break
                inner, frames = self._arrived.popleft()
                self._take(self._wrapped(inner), frames)
            now = monotonic()
            for connection in self._connections:
                if connection.delivery.due() <= now:
                    self._transmit(connection, now)

    def _take(self, connection: ReliableConnection, frames: Sequence[Frame] | None) -> None:
        if connection.closed and connection not in self._connections:
            return
        try:
            if frames is not None:
                ready = connection.delivery.receive(Header.decode(frames[0]), frames[1:])
                self._inbox.extend((connection, message) for message in ready)
                return
        except RemoteProtocolError:
            connection.inner.abort()
        connection.lose()
        self._connections.discard(connection)
        self._inbox.append((connection, None))

    def abort_reason(self, last_words: Sequence[str]) -> str:
        return self._inner.abort_reason(last_words)

    def catch_up(self) -> None:
        self._inner.catch_up()

    def settle(self, timeout_s: float) -> bool:
        return self._confirmed(list(self._connections), timeout_s)

    def flush(self, connections: Sequence[ReliableConnection]) -> None:
        """Wait for a bounded time until the peers have confirmed everything."""
        self._confirmed(connections, self._close_s)

    def _confirmed(self, connections: Sequence[ReliableConnection], timeout_s: float) -> bool:
        deadline = monotonic() + timeout_s
        while not all(connection.closed or connection.delivery.is_settled for connection in connections):
            if monotonic() >= deadline:
                return False
            if self._polling.acquire(timeout=_LOOK_S):
                try:
                    self._poll_inner(_LOOK_S)
                finally:
                    self._polling.release()
                if self._inbox:
                    self.wake()  # the polling thread has to take them
        return True

    def forget(self, connection: ReliableConnection) -> None:
        """The connection ends at this end."""
        self._connections.discard(connection)

    def wake(self) -> None:
        self._inner.wake()

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        self._inner.watch(fd, on_readable)

    def unwatch(self, fd: int) -> None:
        self._inner.unwatch(fd)

    def close(self) -> None:
        self.flush(list(self._connections))
        self._connections.clear()
        self._inner.close()

    def abandon(self) -> None:
        self._connections.clear()
        self._inner.abandon()
