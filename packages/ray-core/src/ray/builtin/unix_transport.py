"""Transport over ``AF_UNIX`` stream sockets in the session directory: the default on one machine.

The directory (0700, owned by the user) is the protection; the uid of each peer is checked as well where the system
tells it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ray.abc.strangers import FIRST_MESSAGE_BYTES
from ray.abc.transport import Connection, Frame, Transport
from ray.builtin.unix_listener import UnixListener
from ray.exceptions import ProtocolError
from ray.protocol.framing import FrameReader, head

SCHEME = "unix:"
_MAX_PATH_BYTES = 100
_MAX_PARTS = 512
_CLOSE_FLUSH_S = 0.5
#: How long before another try to connect to a listener with a full queue.
_FULL_S = 0.001
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR


class UnixConnection(Connection):
    """One socket. ``send`` writes at once what the kernel takes and leaves the rest to the polling thread."""

    def __init__(self, sock: socket.socket, transport: UnixTransport) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._transport = transport
        self._lock = threading.RLock()
        self._out: deque[Any] = deque()
        self._queued = 0
        self._reader = FrameReader()
        #: Bytes that a peer who has connected may still send until its first message is complete; 0: it is.
        self.first_bytes = 0
        self.context = None
        self.closed = False
        self.fd = sock.fileno()

    def send(self, frames: Sequence[Frame]) -> None:
        if len(frames) == 1:
            frame = frames[0]
            parts: list[Any] = [head(frames), frame]
            total = 12 + len(frame)
        else:
            parts = [head(frames), *(memoryview(frame).cast("B") for frame in frames)]
            total = sum(map(len, parts))
        with self._lock:
            if self.closed:
                return
            if not self._out:
                try:
                    sent = self._sock.sendmsg(parts if len(parts) <= _MAX_PARTS else parts[:_MAX_PARTS])
                except BlockingIOError:
                    sent = 0
                except OSError:
                    return  # the polling thread sees the same loss and reports it
                if sent == total:
                    return
                self._out.extend(_unsent(parts, sent))
                self._queued = total - sent
                self._transport._watch_writable(self, True)
            else:
                self._out.extend(parts)
                self._queued += total

    @property
    def queued_bytes(self) -> int:
        return self._queued

    def _flush(self) -> None:
        """Write what is queued; called by the polling thread when the socket takes more."""
        with self._lock:
            while self._out and not self.closed:
                parts = [self._out[i] for i in range(min(len(self._out), _MAX_PARTS))]
                try:
                    sent = self._sock.sendmsg(parts)
                except BlockingIOError:
                    return
                except OSError:
                    self._out.clear()
                    self._queued = 0
                    break
                self._queued -= sent
                for _ in parts:
                    self._out.popleft()
                rest = _unsent(parts, sent)
                if rest:
                    self._out.extendleft(reversed(rest))
                    return
            self._transport._watch_writable(self, False)

    def _receive(self) -> list[list[Any]] | None:
        """Messages that have arrived; None when the peer is gone."""
        memory = self._reader.free()
        if self.first_bytes:
            memory = memory[: self.first_bytes]
        try:
            received = self._sock.recv_into(memory)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return None
        if not received:
            return None
        try:
            messages = self._reader.filled(received)
        except ProtocolError:
            return None
        if self.first_bytes:
            if messages:
                self._transport._introduced(self)
            elif received < self.first_bytes:
                self.first_bytes -= received
            else:
                return None
        return messages

    def close(self) -> None:
        deadline = time.monotonic() + _CLOSE_FLUSH_S
        while self._out and not self.closed:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            with contextlib.suppress(OSError, ValueError):
                select.select([], [self.fd], [], left)
            self._flush()
        self.abort()

    def abort(self) -> None:
        if not self._transport.is_own_process:  # a forked child: the poller is the parent's, the lock may be held
            self.closed = True
            self._sock.close()
            return
        with self._lock:
            if self.closed:
                return
            self.closed = True
            self._out.clear()
            self._queued = 0
            self._transport._forget(self)
            self._sock.close()

    def _lost(self) -> bool:
        """Mark as lost; False if this end closed it already."""
        with self._lock:
            if self.closed:
                return False
            self.closed = True
            self._out.clear()
            self._queued = 0
            self._transport._forget(self)
            self._sock.close()
            return True


def _unsent(parts: list[Any], sent: int) -> list[Any]:
    for index, part in enumerate(parts):
        if sent < len(part):
            return [memoryview(part)[sent:], *parts[index + 1 :]]
        sent -= len(part)
    return []


class UnixTransport(Transport):
    """Sockets named ``<session_dir>/<hint>.sock``."""

    name = "unix"

    def __init__(self, session_dir: str) -> None:
        self._dir = session_dir
        self._pid = os.getpid()
        self._poller = _Poller()
        #: {descriptor: connection}
        self._connections: dict[int, UnixConnection] = {}
        #: {descriptor: callback}
        self._watched: dict[int, Callable[[], None]] = {}
        self._listener: UnixListener | None = None
        self._wake_read, self._wake_write = _wake_pair()
        self._poller.register(self._wake_read)
        self._watched[self._wake_read] = self._drain_wake
        self._closed = False

    @property
    def is_own_process(self) -> bool:
        """False in a forked child, which shares the poller with its parent."""
        return self._pid == os.getpid()

    def listen(self, hint: str) -> str:
        path = os.path.join(self._dir, f"{hint}.sock")
        if len(os.fsencode(path)) > _MAX_PATH_BYTES:
            raise OSError(
                f"socket path is longer than {_MAX_PATH_BYTES} bytes: {path}; set TMPDIR to a shorter directory"
            )
        self._listener = UnixListener(path)
        self.watch(self._listener.fd, self._accept)
        return SCHEME + path

    def _accept(self) -> None:
        listener = self._listener
        assert listener is not None
        for sock in listener.accept():
            connection = self._add(sock)
            connection.first_bytes = FIRST_MESSAGE_BYTES
            listener.strangers.arrived(connection)
        if listener.paused_until:
            self._poller.unregister(listener.fd)

    def _introduced(self, connection: UnixConnection) -> None:
        """The first message of a peer that has connected is there."""
        connection.first_bytes = 0
        if self._listener is not None:
            self._listener.strangers.left(connection)

    def _tend(self, listener: UnixListener) -> None:
        """Turn away those who have said nothing in time, or are too many; let others in again after a pause."""
        for connection in listener.strangers.surplus():
            connection.abort()
        if listener.paused_until and time.monotonic() >= listener.paused_until:
            listener.paused_until = 0.0
            self._poller.register(listener.fd)

    def _add(self, sock: socket.socket) -> UnixConnection:
        connection = UnixConnection(sock, self)
        self._connections[connection.fd] = connection
        self._poller.register(connection.fd)
        return connection

    def connect(self, address: str, timeout_s: float = 5.0) -> UnixConnection:
        if not address.startswith(SCHEME):
            raise ConnectionError(f"{address!r} is not a unix socket address")
        deadline = time.monotonic() + timeout_s
        sock = None
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout_s)
            while True:
                try:
                    sock.connect(address[len(SCHEME) :])
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(_FULL_S)
        except OSError as error:
            if sock is not None:
                sock.close()
            raise ConnectionError(f"cannot connect to {address}: {error}") from error
        return self._add(sock)

    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        events: list[tuple[Connection, Sequence[Frame] | None]] = []
        listener = self._listener
        tended = listener if listener is not None and (listener.strangers or listener.paused_until) else None
        if tended is not None:
            timeout_s = tended.wait_s(timeout_s)
        for fd, mask in self._poller.poll(timeout_s):
            connection = self._connections.get(fd)
            if connection is None:
                callback = self._watched.get(fd)
                if callback is not None:
                    callback()
                continue
            if mask & select.POLLOUT:
                connection._flush()
            if mask & _READABLE:
                messages = connection._receive()
                if messages is None:
                    if connection._lost() and not connection.first_bytes:
                        events.append((connection, None))
                else:
                    for message in messages:
                        events.append((connection, message))
        if tended is not None:
            self._tend(tended)
        return events

    def wake(self) -> None:
        if not self._closed:  # the descriptor may belong to somebody else by now
            with contextlib.suppress(OSError):
                os.write(self._wake_write, b"\x01\0\0\0\0\0\0\0")

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        self._watched[fd] = on_readable
        self._poller.register(fd)

    def unwatch(self, fd: int) -> None:
        if self._watched.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def _watch_writable(self, connection: UnixConnection, wanted: bool) -> None:
        self._poller.modify(connection.fd, wanted)

    def _forget(self, connection: UnixConnection) -> None:
        if self._connections.get(connection.fd) is connection:
            del self._connections[connection.fd]
            self._poller.unregister(connection.fd)
            if connection.first_bytes and self._listener is not None:
                self._listener.strangers.left(connection)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for connection in list(self._connections.values()):
            connection.close()
        if self._listener is not None:
            self.unwatch(self._listener.fd)
            self._listener.close()
            with contextlib.suppress(OSError):
                os.unlink(self._listener.path)
        self._close_own()

    def abandon(self) -> None:
        if self._closed:  # its descriptors may be somebody else's by now
            return
        self._closed = True
        for connection in list(self._connections.values()):
            connection.closed = True
            connection._sock.close()
        self._connections.clear()
        if self._listener is not None:
            self._listener.close()
        self._close_own()

    def _close_own(self) -> None:
        self._watched.clear()
        self._poller.close()
        os.close(self._wake_read)
        if self._wake_write != self._wake_read:
            os.close(self._wake_write)


class _Poller:
    """``epoll`` where there is one, else ``poll``; both level-triggered."""

    def __init__(self) -> None:
        self._epoll = hasattr(select, "epoll")
        self._impl: Any = select.epoll() if self._epoll else select.poll()

    def register(self, fd: int) -> None:
        self._impl.register(fd, select.POLLIN)

    def modify(self, fd: int, writable: bool) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            self._impl.modify(fd, select.POLLIN | (select.POLLOUT if writable else 0))

    def unregister(self, fd: int) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            self._impl.unregister(fd)

    def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
        if self._epoll:
            return self._impl.poll(timeout_s)  # type: ignore[no-any-return]
        return self._impl.poll(None if timeout_s is None else timeout_s * 1000)  # type: ignore[no-any-return]

    def close(self) -> None:
        if self._epoll:
            self._impl.close()


UnixTransport.wait_code = _Poller.poll.__code__


def _wake_pair() -> tuple[int, int]:
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return fd, fd
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write
