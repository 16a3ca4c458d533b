"""Seeing that what was handed to ZeroMQ is with the system. On Linux; elsewhere it cannot be known.

Handing over to ZeroMQ's I/O thread makes it runnable before the call returns. It sleeps in one place only, where it
waits for descriptors, and does so when nothing is left to do but what the system does not take yet. So once it is
found asleep there, everything that was handed over before is with the system.

With a unix socket that is enough. TCP holds data back until the peer has acknowledged what was sent before, and throws
it away when the peer sends something to the dead process; so it has to have sent it as well.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Iterable

#: Before the names of the threads of this package's context, by which ZeroMQ allows a number only: "ray" on the keys
#: of a telephone. Other users of ZeroMQ in the process have threads of their own.
NAME_PREFIX = 729
_NAME = f"{NAME_PREFIX}/ZMQbg/IO/0"
_TASKS = "/proc/self/task"
#: ``epoll_wait`` and ``epoll_pwait`` of x86-64; ``epoll_pwait`` of all younger architectures.
_WAITING = (b"232 ", b"281 ", b"22 ")
#: It is let run this often by giving way, which takes a microsecond or two, before this thread sleeps in between.
_YIELDS = 50
_SLEEP_S = 0.00005
#: The ``ioctl`` that tells how much a TCP socket has not sent yet, not even once.
_SIOCOUTQNSD = 0x894B
#: It takes its name when it first runs; a system that does not tell of threads is not asked for ever.
_SEARCHES = 10


class IoThread:
    """The one of this process."""

    def __init__(self) -> None:
        self._fd = -1
        self._searches = _SEARCHES

    def find(self) -> None:
        """Look for it, unless it is known; it is there from the first socket on. By one thread at a time."""
        if self._fd < 0 and self._searches:
            self._searches -= 1
            self._fd = _open()

    def await_rest(self, deadline: float) -> bool:
        """Wait until it sleeps; False if the time is over or it cannot be known."""
        looks = 0
        while self._fd >= 0:
            try:
                if os.pread(self._fd, 4, 0).startswith(_WAITING):
                    return True
            except OSError:  # it has ended
                return False
            if time.monotonic() >= deadline:
                return False
            looks += 1
            if looks <= _YIELDS:
                os.sched_yield()
            else:
                time.sleep(_SLEEP_S)
        return False

    def close(self) -> None:
        """Release the descriptor. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def await_sent(fds: Iterable[int], deadline: float) -> bool:
    """Wait until TCP has sent what it was given; False if the time is over."""
    for fd in fds:
        while _unsent_bytes(fd):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_SLEEP_S)
    return True


def _unsent_bytes(fd: int) -> int:
    from fcntl import ioctl

    try:
        (count,) = struct.unpack("i", ioctl(fd, _SIOCOUTQNSD, bytes(4)))
    except OSError:  # ZeroMQ has just closed it
        return 0
    return int(count)


def _open() -> int:
    """A descriptor that tells in which system call the thread is; -1 if there is none."""
    with contextlib.suppress(OSError):
        for task in os.listdir(_TASKS):
            with contextlib.suppress(OSError):  # that one has just ended
                with open(f"{_TASKS}/{task}/comm") as file:
                    name = file.read().rstrip("\n")
                if name == _NAME:
                    return os.open(f"{_TASKS}/{task}/syscall", os.O_RDONLY | os.O_CLOEXEC)
    return -1
