"""What lets peers in: ZeroMQ, or this end, one at a time, where it may have few descriptors.

ZeroMQ ends the process when it accepts a peer on ``ipc`` and finds no descriptor. So its thread is kept from looking at
the listening socket, and shown each connection only once there is room for it. Its thread waits with ``epoll``, whose
descriptor belongs to the process: what it waits for can be changed from here. Elsewhere there is no gate.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
from collections.abc import Callable

from ray.abc.transport import Transport
from ray.clock import monotonic, sleep
from ray_transport_zmq.descriptors import check_room
from ray_transport_zmq.monitor import Monitor

#: A process that may have so many is in no danger from those that leave their connections idle.
ENOUGH = 4096
_AGAIN_S = 0.02
#: How long ZeroMQ is waited for, which begins to listen on its own thread.
_BEGIN_S = 2.0
_EPOLL_CTL_MOD, _IN, _ONCE = 3, 1, 1 << 30


class _Event(ctypes.Structure):
    """``struct epoll_event``; packed where the kernel has it so."""

    if platform.machine() == "x86_64":
        _pack_ = 1
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


class Gate:
    """Of one listening socket, while it is shut: a peer that knocks is let in as soon as there is room."""

    def __init__(self, fd: int, place: tuple[int, int], transport: Transport, make_room: Callable[[], None]) -> None:
        """Shut it.

        Args:
            fd: the listening socket.
            place: the descriptor of ZeroMQ's ``epoll``, and what it knows the socket by.
            transport: watches the socket instead.
            make_room: called when there is none; some may be there a moment later.
        """
        self._fd = fd
        self._epoll, self._data = place
        self._transport = transport
        self._make_room = make_room
        self._control = ctypes.CDLL(None, use_errno=True).epoll_ctl
        #: When it is looked again whether there is room; 0 while there is.
        self._again = 0.0
        self._set(0)
        transport.watch(fd, self._knocked)

    def _set(self, events: int) -> None:
        event = _Event(events, self._data)
        if self._control(self._epoll, _EPOLL_CTL_MOD, self._fd, ctypes.byref(event)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def _knocked(self) -> None:
        """A client has connected, and waits to be accepted."""
        try:
            check_room(self._fd)
        except OSError:
            self._make_room()
            self._transport.unwatch(self._fd)
            self._again = monotonic() + _AGAIN_S
        else:
            self._set(_IN | _ONCE)

    def wait_s(self, timeout_s: float | None) -> float | None:
        """How long one may wait of ``timeout_s``; looks again which peers wait, if it is time for that."""
        if not self._again:
            return timeout_s
        left_s = self._again - monotonic()
        if left_s <= 0:
            self._again = 0.0
            self._transport.watch(self._fd, self._knocked)
            return timeout_s
        return left_s if timeout_s is None else min(left_s, timeout_s)

    def close(self) -> None:
        """The socket is about to be closed."""
        self._transport.unwatch(self._fd)


def has_few_descriptors() -> bool:
    """Whether this process may have few; its limit is raised as far as it allows itself, and as that matters."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < ENOUGH:
        with contextlib.suppress(OSError, ValueError):
            most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return soft != resource.RLIM_INFINITY and soft < ENOUGH


def shut(monitor: Monitor, transport: Transport) -> Gate | None:
    """The gate of the socket that ZeroMQ is about to listen on; None where there can be none."""
    monitor.read()
    fd = next(iter(monitor.open))
    place = _await_place(fd)
    return None if place is None else Gate(fd, place, transport, monitor.make_room)


def _await_place(fd: int) -> tuple[int, int] | None:
    """Where ZeroMQ waits for ``fd``, which it is about to do: its ``epoll``, and its name for it; None elsewhere."""
    end = monotonic() + _BEGIN_S
    while os.path.isdir("/proc/self/fdinfo") and monotonic() < end:
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventpoll]":
                    found = _entry(name, fd)
                    if found is not None:
                        return int(name), found
        sleep(0.0005)
    return None


def _entry(epoll: str, fd: int) -> int | None:
    with open(f"/proc/self/fdinfo/{epoll}") as info:
        for line in info:
            words = line.split()
            if words[:2] == ["tfd:", str(fd)] and int(words[3], 16) & _IN:
                return int(words[5], 16)
    return None
