"""Transport between transports of one process: queues instead of a wire. For tests, simulation and local mode.

What is observable is as on a wire: messages are private to the receiver, ``send`` never blocks, a peer that closes is
reported once and after what it sent.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import weakref
from collections import deque
from collections.abc import Callable, Sequence

from ray.abc.transport import Connection, Frame, Transport

SCHEME = "inproc:"

#: {address: listening transport}
_listeners: weakref.WeakValueDictionary[str, InprocTransport] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


class InprocConnection(Connection):
    """One end. Whatever is sent goes straight into the inbox of the transport at the other end."""

    def __init__(self, transport: InprocTransport) -> None:
        self.context = None
        self.closed = False
        self.transport = transport
        self._peer: InprocConnection | None = None
        #: Bytes in the peer's inbox from here.
        self.unread_bytes = 0
        #: What the other end sent, and nobody has read yet, is not to be read.
        self.dropped = False
        #: The polling thread of this end knows of it: it has dialled, or heard the first message.
        self.is_known = True

    @classmethod
    def pair(cls, here: InprocTransport, there: InprocTransport) -> InprocConnection:
        """Connect two transports; returns the end ``here``."""
        near, far = cls(here), cls(there)
        near._peer, far._peer = far, near
        far.is_known = False
        here.connections.add(near)
        there.connections.add(far)
        return near

    def send(self, frames: Sequence[Frame]) -> None:
        peer = self._peer
        first = frames[0]
        if self.closed or peer is None or first is None:
            return
        private = [frame if type(frame) is bytes else bytes(frame) for frame in (first, *frames[1:])]
        peer.transport.put(peer, private, sum(map(len, private)), frames)

    @property
    def queued_bytes(self) -> int:
        return 0 if self.closed else self.unread_bytes

    def handed_over(self, nbytes: int) -> None:
        """The other end has read that many bytes."""
        if self._peer is not None:
            self._peer.unread_bytes -= nbytes

    def sent(self, nbytes: int) -> None:
        """The peer of this end has put that many bytes into its inbox."""
        if self._peer is not None:
            self._peer.unread_bytes += nbytes

    def close(self) -> None:
        self._end(drop=False)

    def abort(self) -> None:
        self._end(drop=True)

    def _end(self, drop: bool) -> None:
        if self.closed:
            return
        self.closed = True
        self.transport.connections.discard(self)
        peer = self._peer
        if peer is not None and self.transport.is_own_process:
            if drop:
                peer.transport.drop(peer)
            peer.transport.put(peer, None, 0)


class InprocTransport(Transport):
    """An end point within this process. Its only system resources are a pipe and a selector."""

    name = "inproc"

    def __init__(self, session_dir: str = "") -> None:
        """Make a transport; ``session_dir`` is accepted, as every transport does, and not used."""
        #: Connections that are open at this end.
        self.connections: set[InprocConnection] = set()
        #: (connection, frames or None, bytes), oldest first
        self._inbox: deque[tuple[InprocConnection, list[bytes] | None, int]] = deque()
        #: Of these, the one that was taken last; what the next ``poll`` to end returns.
        self._last: object = None
        self._taken: list[tuple[Connection, Sequence[Frame] | None]] = []
        self._address: str | None = None
        self._closed = False
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._wake_read, self._wake_write):
            os.set_blocking(fd, False)
        self.watch(self._wake_read, self._drain)

    @property
    def is_own_process(self) -> bool:
        """False in a forked child: its copies of the queues lead nowhere."""
        return self._pid == os.getpid()

    def listen(self, hint: str) -> str:
        self._address = f"{SCHEME}{hint}-{next(_numbers)}"
        _listeners[self._address] = self
        return self._address

    def dial(self, address: str, timeout_s: float = 5.0) -> InprocConnection:
        listener = _listeners.get(address)
        if listener is not None and listener.is_own_process:
            return InprocConnection.pair(self, listener)
        connection = InprocConnection(self)
        connection.failure = ConnectionError(f"nobody listens on {address} in this process")
        self._inbox.append((connection, None, 0))
        self.wake()
        return connection

    def put(
        self, connection: InprocConnection, frames: list[bytes] | None, nbytes: int, given: Sequence[Frame] = ()
    ) -> None:
        """Add to the inbox, from the other end; None is the end of the connection. ``given``: to ``send``."""
        if self._closed or connection.closed:
            return
        inbox = self._inbox
        item = (connection, frames, nbytes)
        connection.sent(nbytes)
        if isinstance(given, list):
            if given[0] is None:
                connection.sent(-nbytes)
                return
            given[0] = None
        inbox.append(item)
        if inbox and inbox[0] is item:  # else the polling thread has come to it, or has others before it
            self.wake()

    def drop(self, connection: InprocConnection) -> None:
        """Take back what the other end sent and nobody has read yet."""
        connection.dropped = True

    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        for key, _ in self._selector.select(0 if self._inbox or self._taken else timeout_s):
            callback: Callable[[], None] = key.data
            callback()
        self._take()
        rest: list[tuple[Connection, Sequence[Frame] | None]] = []
        # In one go: a call that interrupts this one finds them either all or not at all.
        events = self._taken
        self._taken = rest
        return events

    def _take(self) -> None:
        """Move what has arrived to what is to be returned; another call of this may come in between anywhere."""
        while True:
            if not self._inbox:
                return
            item = self._inbox[0]
            connection, frames, nbytes = item
            event = (connection, frames)
            if not self._inbox or self._inbox[0] is not item:
                continue
            if item is not self._last and not connection.closed:
                self._last = item
                if frames is None or not connection.dropped:
                    connection.closed = frames is None
                    if frames is not None or connection.is_known:
                        connection.is_known = True
                        self._taken.append(event)
            if not self._inbox or self._inbox[0] is not item:
                continue
            self._inbox.popleft()
            connection.handed_over(nbytes)
            if frames is None:
                self.connections.discard(connection)

    def wake(self) -> None:
        if not self._closed:  # the descriptor may belong to somebody else by now
            with contextlib.suppress(BlockingIOError):  # full, so it is awake already
                os.write(self._wake_write, b"\0")

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, on_readable)

    def unwatch(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def close(self) -> None:
        if self._closed:
            return
        if self._address is not None:
            _listeners.pop(self._address, None)
        for connection in list(self.connections):
            connection.close()
        self._release()

    def abandon(self) -> None:
        if self._closed:
            return
        for connection in list(self.connections):
            connection.closed = True
        self._release()

    def _release(self) -> None:
        self._closed = True
        self._inbox.clear()
        self.connections.clear()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
