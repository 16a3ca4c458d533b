"""Transport over ``AF_UNIX`` stream sockets in the session directory: the default on one machine.

The directory (0700, owned by the user) is the protection; the uid of each peer is checked as well where the system
tells it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Callable, Sequence
from typing import Any

from ray.abc.strangers import FIRST_MESSAGE_BYTES
from ray.abc.transport import Connection, Frame, Transport
from ray.builtin.unix_connection import UnixConnection
from ray.builtin.unix_dials import AGAIN_S, Dial, UnixDials, failure_of
from ray.builtin.unix_listener import UnixListener
from ray.clock import monotonic, sleep

SCHEME = "unix:"
_MAX_PATH_BYTES = 100
#: How soon to look again for what another thread was about to write.
_LATE_S = 0.01
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
_WRITABLE = select.POLLOUT


class UnixTransport(Transport):
    """Sockets named ``<session_dir>/<hint>.sock``."""

    name = "unix"

    def __init__(self, session_dir: str) -> None:
        self._dir = session_dir
        self._pid = os.getpid()
        self._poller = _Poller()
        #: For connections: how to look for other things at a descriptor.
        self.modify = self._poller.modify
        #: {descriptor: connection}
        self._connections: dict[int, UnixConnection] = {}
        #: {descriptor: callback}
        self._watched: dict[int, Callable[[], None]] = {}
        #: What the next ``poll`` to end returns.
        self.inbox: list[tuple[Connection, Sequence[Frame] | None]] = []
        #: Connections of which something may have been read that is in no inbox yet: only while they are read.
        self._reading: dict[UnixConnection, None] = {}
        #: Connections that ``poll`` writes to: only while it does so.
        self._writing: dict[UnixConnection, None] = {}
        #: Connections with messages that another thread may have overlooked.
        self._late: dict[UnixConnection, None] = {}
        self._dials = UnixDials(self._poller.register)
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
            connection = UnixConnection(sock, self)
            connection.first_bytes = FIRST_MESSAGE_BYTES
            listener.strangers.arrived(connection)
            self._add(connection)  # the last step: from here on, a call that interrupts this one may hear it
        if listener.paused_until:
            self._poller.unregister(listener.fd)
            if not listener.paused_until:  # such a call has ended the pause
                self._poller.register(listener.fd)

    def introduced(self, connection: UnixConnection) -> None:
        """The first message of a peer that has connected is there."""
        connection.first_bytes = 0
        if self._listener is not None:
            self._listener.strangers.left(connection)

    def _tend(self, listener: UnixListener) -> None:
        """Turn away peers that have said nothing in time, or are too many; let others in again after a pause."""
        for connection in listener.strangers.surplus():
            if connection.first_bytes:  # else it has been heard meanwhile, by a call that interrupts this one
                connection.abort()
        if listener.paused_until and monotonic() >= listener.paused_until:
            listener.paused_until = 0.0
            self._poller.register(listener.fd)

    def _add(self, connection: UnixConnection) -> UnixConnection:
        robbed = self._connections.get(connection.fd)
        self._connections[connection.fd] = connection
        if not connection.dialling:
            self._poller.register(connection.fd)
        if robbed is not None:  # the program has closed its descriptor, whose number was free
            robbed.lose()
        return connection

    def cut_off(self) -> list[UnixConnection]:
        found = [connection for connection in list(self._connections.values()) if not connection.has_descriptor()]
        for connection in found:
            connection.abort()
        return found

    def dial(self, address: str, timeout_s: float = 5.0) -> UnixConnection:
        if not address.startswith(SCHEME):
            raise ConnectionError(f"{address!r} is not a unix socket address")
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise failure_of(address, error) from error
        connection = UnixConnection(sock, self)
        path = address[len(SCHEME) :]
        try:
            sock.connect(path)
        except BlockingIOError:
            connection.dial()
            self._add(connection)
            self._dials.waiting[connection] = Dial(sock, address, path, monotonic() + timeout_s)
            self.wake()
        except OSError as error:
            connection.fail(failure_of(address, error))
            self.wake()
        else:
            self._add(connection)
        return connection

    def try_again(self, most_s: float) -> None:
        """Dial those again whose listeners were full, and wait a while, no longer than this; from any thread."""
        if self._dials.try_again():
            self.wake()
        sleep(min(most_s, AGAIN_S))

    def settle(self, timeout_s: float) -> bool:
        end = monotonic() + timeout_s
        while self._dials.holds_back():
            left_s = end - monotonic()
            if left_s <= 0:
                return False
            self.try_again(left_s)
        return True

    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        if self._reading or self._writing:  # what this call has interrupted
            for interrupted in list(self._reading):
                interrupted.sort()
            for interrupted in list(self._writing):
                interrupted.go_on()
        if self._dials.waiting:
            timeout_s = self._dials.wait_s(timeout_s)
        if self.inbox:
            timeout_s = 0.0
        if self._late:
            timeout_s = self._write_late(timeout_s)
        tended = self._listener
        if tended is not None:
            if tended.strangers.deadlines or tended.paused_until:
                timeout_s = tended.wait_s(timeout_s)
            else:
                tended = None
        for fd, mask in self._poller.poll(timeout_s):
            connection = self._connections.get(fd)
            if connection is None:
                callback = self._watched.get(fd)
                if callback is not None:
                    callback()
                continue
            if mask & _WRITABLE:
                writing = self._writing
                writing[connection] = None
                connection.write()
                writing.pop(connection, None)
            if mask & _READABLE:
                reading = self._reading
                reading[connection] = None
                connection.receive()
                reading.pop(connection, None)
        if tended is not None:
            self._tend(tended)
        rest: list[tuple[Connection, Sequence[Frame] | None]] = []
        # In one go: a call that interrupts this one finds them either all or not at all.
        events = self.inbox
        self.inbox = rest
        return events

    def catch_up(self) -> None:
        for connection in self._connections.copy().values():
            connection.go_on()

    def write_later(self, connection: UnixConnection) -> None:
        """Another thread writes to it, and may not have seen the last message."""
        self._late[connection] = None
        self.wake()

    def _write_late(self, timeout_s: float | None) -> float | None:
        for connection in list(self._late):
            if connection.write():
                self._late.pop(connection, None)
        return timeout_s if not self._late else min(_LATE_S, _LATE_S if timeout_s is None else timeout_s)

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

    def forget(self, connection: UnixConnection) -> None:
        """It is closed."""
        self._dials.forget(connection)
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
            connection.abandon()
        self._connections.clear()
        if self._listener is not None:
            self._listener.close()
        self._close_own()

    def _close_own(self) -> None:
        self._watched.clear()
        self._poller.close()
        for fd in {self._wake_read, self._wake_write}:
            with contextlib.suppress(OSError):  # the program has closed every descriptor that it found
                os.close(fd)


class _Poller:
    """``epoll`` where there is one, else ``poll``; both level-triggered."""

    def __init__(self) -> None:
        self._epoll = hasattr(select, "epoll")
        self._impl: Any = select.epoll() if self._epoll else select.poll()
        self.modify: Callable[[int, int], None] = self._impl.modify

    def register(self, fd: int) -> None:
        with contextlib.suppress(FileExistsError):  # by a call that interrupts this one
            self._impl.register(fd, select.POLLIN)

    def unregister(self, fd: int) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            self._impl.unregister(fd)

    def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
        if self._epoll:
            return self._impl.poll(timeout_s)  # type: ignore[no-any-return]
        return self._impl.poll(None if timeout_s is None else timeout_s * 1000)  # type: ignore[no-any-return]

    def close(self) -> None:
        if self._epoll:
            with contextlib.suppress(OSError):
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
