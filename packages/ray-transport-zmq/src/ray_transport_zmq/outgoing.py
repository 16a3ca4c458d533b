"""Handing units to ZeroMQ."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterator
from itertools import chain, repeat, starmap
from typing import Any, Literal

from ray_transport_zmq import native, wire

#: Larger parts are copied once, into ZeroMQ's memory.
_LARGE_BYTES = 256 * 1024


class Outgoing:
    """The units that leave by a router socket."""

    def __init__(self, handle: ctypes.c_void_p) -> None:
        self._handle = handle
        #: One object, another one for each unit that was handed over.
        self.last: deque[object] = deque([object()], 1)

    def touch(self) -> Literal[True]:
        """Have ``last`` be another one, as after a unit."""
        self.last.append(object())
        return True

    def steps(self, id: bytes, unit: wire.Unit) -> list[Iterator[Any]]:
        """What hands ``unit`` to the peer of this id, as ``walk`` takes it."""
        handle, (*parts, last) = self._handle, unit[1]
        steps: list[Iterator[Any]] = [map(self.last.append, (object(),))]
        for part in (id, *parts):
            steps.append(native.again(native.send, (handle, part, len(part), native.NOW_MORE)))
        if len(last) <= _LARGE_BYTES:
            steps.append(native.again(native.send, (handle, bytes(last), len(last), native.NOW)))
        else:
            message = native.Message(last)
            steps.append(repeat(message, 1))  # which keeps it
            steps.append(native.again(native.send_message, (message.pointer, handle, native.NOW)))
        return steps


def walk(steps: list[Iterator[Any]]) -> Iterator[Any]:
    """Advances each, until one ends, then yields the last error of ZeroMQ."""
    return chain(map(next, steps), starmap(native.errno, ((),)))
