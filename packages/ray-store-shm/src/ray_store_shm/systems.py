"""What a broker and its clients need of the operating system where that is not the same everywhere.

Linux has sockets that keep packets apart, descriptors of processes, ``epoll``, and signals at the death of a parent.
Elsewhere POSIX has to do. The broker chooses; the scheme of its address tells its clients.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import sys
from abc import ABC, abstractmethod
from typing import Protocol

from ray.clock import monotonic, sleep
from ray_store_shm.packets import PacketSocket

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_TIMEVAL = struct.Struct("@ll")
#: ``struct ucred``: pid, uid, gid
_CREDENTIALS = struct.Struct("3i")
#: Of macOS' <sys/un.h>.
_SOL_LOCAL, _LOCAL_PEERPID = 0, 2
#: How long the end of a killed process is awaited.
_END_S, _END_AGAIN_S = 5.0, 0.001


class Poller(Protocol):
    """As ``select.epoll``, level-triggered. Descriptors are taken out before they are closed."""

    def register(self, fd: int, eventmask: int, /) -> None: ...
    def modify(self, fd: int, eventmask: int, /) -> None: ...
    def unregister(self, fd: int, /) -> None: ...
    def poll(self, timeout: float, maxevents: int, /) -> list[tuple[int, int]]: ...


class System(ABC):
    """One way to do it. All of a broker's clients do it in the same way."""

    #: What addresses begin with; the socket's path follows.
    scheme: str

    @abstractmethod
    def open(self, fileno: int | None = None) -> socket.socket:
        """A Unix socket, new or of a descriptor, that keeps packets apart and their descriptors with them."""

    @abstractmethod
    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Two of them, connected."""

    @abstractmethod
    def limit_waits(self, sock: socket.socket, sending_s: float, receiving_s: float) -> None:
        """Have its calls wait, but raise BlockingIOError after so many seconds."""

    @abstractmethod
    def poller(self) -> Poller:
        """For the sockets of a broker."""

    @abstractmethod
    def die_with_parent(self) -> None:
        """In a broker: see to it that it ends with its parent, if the end of their socket is not enough."""

    @abstractmethod
    def follow(self, pid: int) -> int:
        """What ``end`` is to know a new child by."""

    @abstractmethod
    def end(self, child: int, channel: socket.socket) -> None:
        """Kill a broker, if it lives, and reap it, if nobody has: its number may be another child's by now.

        Args:
            child: what ``follow`` returned.
            channel: its parent's end of their socket, on which the broker never says anything.
        """


class Linux(System):
    """What Linux has (5.3)."""

    scheme = "shm:"

    def open(self, fileno: int | None = None) -> socket.socket:
        return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def limit_waits(self, sock: socket.socket, sending_s: float, receiving_s: float) -> None:
        sock.settimeout(None)
        for option, seconds in ((socket.SO_SNDTIMEO, sending_s), (socket.SO_RCVTIMEO, receiving_s)):
            sock.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(*divmod(int(seconds * 1_000_000), 1_000_000)))

    def poller(self) -> Poller:
        return select.epoll()

    def die_with_parent(self) -> None:
        import ctypes  # not in clients

        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NAME, b"ray-shm", 0, 0, 0)

    def follow(self, pid: int) -> int:
        return os.pidfd_open(pid)

    def end(self, child: int, channel: socket.socket) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # reaped elsewhere, when it died
            os.waitid(os.P_PIDFD, child, os.WEXITED)
        os.close(child)


class Posix(System):
    """What there is on every system that passes descriptors over Unix sockets."""

    scheme = "shm+stream:"

    def open(self, fileno: int | None = None) -> PacketSocket:
        return PacketSocket(fileno)

    def pair(self) -> tuple[PacketSocket, PacketSocket]:
        one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return self.open(one.detach()), self.open(two.detach())

    def limit_waits(self, sock: socket.socket, sending_s: float, receiving_s: float) -> None:
        assert isinstance(sock, PacketSocket)
        sock.setblocking(False)
        sock.patience_s, sock.attention_s = sending_s, receiving_s

    def poller(self) -> Poller:
        return _Poll()

    def die_with_parent(self) -> None:
        """The end of the socket is enough: whatever its parent forks lets go of its end."""

    def follow(self, pid: int) -> int:
        return pid

    def end(self, child: int, channel: socket.socket) -> None:
        # Only the broker has the other end. As long as that is open, so is the broker, and the number is its own.
        poller = select.poll()
        poller.register(channel, select.POLLIN)
        last = monotonic() + _END_S
        with contextlib.suppress(ProcessLookupError, ChildProcessError):  # reaped elsewhere, when it died
            if not poller.poll(0):
                os.kill(child, signal.SIGKILL)
            while os.waitpid(child, os.WNOHANG) == (0, 0) and monotonic() < last:
                sleep(_END_AGAIN_S)


class _Poll:
    def __init__(self) -> None:
        self._poll = select.poll()
        self.register = self._poll.register
        self.modify = self._poll.modify
        self.unregister = self._poll.unregister

    def poll(self, timeout: float, maxevents: int, /) -> list[tuple[int, int]]:
        return self._poll.poll(timeout * 1000)


def of_this_system() -> System:
    """The best that there is here."""
    return Linux() if sys.platform == "linux" else Posix()


def of_address(address: str) -> tuple[System, str]:
    """What the broker of an address chose, and the path of its socket.

    Raises:
        ValueError: it is not a broker's address.
    """
    for system in (Linux(), Posix()):
        if address.startswith(system.scheme):
            return system, address.removeprefix(system.scheme)
    raise ValueError(f"{address!r} is not the address of a shm store")


def other_end(sock: socket.socket) -> tuple[int, int]:
    """Pid and user of the process that connected; pid 0 where the system does not tell.

    Raises:
        OSError: it has gone.
    """
    if sys.platform != "linux":
        return _other_end_elsewhere(sock)
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def _other_end_elsewhere(sock: socket.socket) -> tuple[int, int]:
    import ctypes

    user, group = ctypes.c_uint(), ctypes.c_uint()
    if ctypes.CDLL(None, use_errno=True).getpeereid(sock.fileno(), ctypes.byref(user), ctypes.byref(group)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID) if sys.platform == "darwin" else 0, user.value


def highest_descriptor() -> int:
    """The highest that this process has open."""
    return max(int(name) for name in os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"))
