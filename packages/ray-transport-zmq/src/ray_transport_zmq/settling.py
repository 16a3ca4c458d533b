"""Seeing that what was handed to ZeroMQ is with the system. On Linux; elsewhere it cannot be known.

Handing over to ZeroMQ's I/O thread makes it runnable before the call returns. It sleeps in one place only, where it
waits for descriptors, and does so when nothing is left to do but what the system does not take yet. So once it is
found asleep there, everything that was handed over before is with the system. Two files of Linux tell, in this order:
that it sleeps, and where. The second alone says of one that is being woken, and still to run, that it waits.

With a unix socket that is enough. TCP holds data back until the peer has acknowledged what was sent before, and throws
it away when the peer sends something to the dead process; so it has to have sent it as well.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable

from ray.clock import monotonic, sleep

#: Before the names of the threads of this package's context, by which ZeroMQ allows a number only: "ray" on the keys
#: of a telephone. Other users of ZeroMQ in the process have threads of their own.
NAME_PREFIX = 729
_NAME = f"{NAME_PREFIX}/ZMQbg/IO/0"
_TASKS = "/proc/self/task"
#: In ``stat``, behind the name.
_ASLEEP = f"({_NAME}) S ".encode()
_STATE_BYTES = 64
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
        #: What tells whether it sleeps, and in which system call it is; empty if it is not known.
        self._fds: tuple[int, ...] = ()
        self._searches = _SEARCHES

    def find(self) -> None:
        """Look for it, unless it is known; it is there from the first socket on. By one thread at a time."""
        if not self._fds and self._searches:
            self._searches -= 1
            self._fds = _open()

    def await_rest(self, deadline: float) -> bool:
        """Wait until it sleeps; False if the time is over or it cannot be known."""
        looks = 0
        while fds := self._fds:
            state, place = fds
            try:
                if _ASLEEP in os.pread(state, _STATE_BYTES, 0) and os.pread(place, 4, 0).startswith(_WAITING):
                    return True
            except OSError:  # it has ended
                return False
            if monotonic() >= deadline:
                return False
            looks += 1
            if looks <= _YIELDS:
                os.sched_yield()
            else:
                sleep(_SLEEP_S)
        return False

    def close(self) -> None:
        """Release the descriptors. Idempotent."""
        fds, self._fds = self._fds, ()
        for fd in fds:
            os.close(fd)


def await_sent(fds: Iterable[int], deadline: float) -> bool:
    """Wait until TCP has sent what it was given; False if the time is over."""
    for fd in fds:
        while _unsent_bytes(fd):
            if monotonic() >= deadline:
                return False
            sleep(_SLEEP_S)
    return True


def _unsent_bytes(fd: int) -> int:
    from fcntl import ioctl

    try:
        (count,) = struct.unpack("i", ioctl(fd, _SIOCOUTQNSD, bytes(4)))
    except OSError:  # ZeroMQ has just closed it
        return 0
    return int(count)


def _open() -> tuple[int, ...]:
    """Descriptors that tell whether the thread sleeps, and in which system call it is; none if there is no thread."""
    with contextlib.suppress(OSError):
        for task in os.listdir(_TASKS):
            with contextlib.suppress(OSError):  # that one has just ended
                with open(f"{_TASKS}/{task}/comm") as file:
                    name = file.read().rstrip("\n")
                if name == _NAME:
                    with open(f"{_TASKS}/{task}/stat") as state, open(f"{_TASKS}/{task}/syscall") as place:
                        return os.dup(state.fileno()), os.dup(place.fileno())
    return ()
