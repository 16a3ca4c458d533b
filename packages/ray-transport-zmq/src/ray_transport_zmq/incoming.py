"""Taking from a socket what has arrived: what was received is on record in the same step, for any thread to go on."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Container
from itertools import starmap
from typing import Any

import zmq

from ray_transport_zmq import native
from ray_transport_zmq.native import Memory, Message, Number
from ray_transport_zmq.wire import MAX_PART_BYTES

_ID_BYTES = 255
_NOTE_BYTES = 1024
#: Of the ids that ZeroMQ gives out itself.
_OWN_ID_BYTES = 5


def is_newer(id: bytes, other: bytes) -> bool:
    """Whether ZeroMQ gave out ``id`` later: a zero and a number that it counts up. A peer with another one is new."""
    if not (len(id) == len(other) == _OWN_ID_BYTES and id[0] == other[0] == 0):
        return True
    return 0 < (int.from_bytes(id, "big") - int.from_bytes(other, "big")) % (1 << 32) < 1 << 31


class Incoming:
    """The units that arrive at a router socket."""

    def __init__(self, handle: ctypes.c_void_p, known: Container[bytes]) -> None:
        """``known``: the peers by whose units nobody wants to know more than what they contain."""
        self._handle = handle
        self._known = known
        self._memory = Memory(MAX_PART_BYTES)
        self._more = Number(handle, zmq.RCVMORE)
        self._of_id, self._of_part = (self._memory.receiving(handle, most) for most in (_ID_BYTES, MAX_PART_BYTES))
        #: What there is of the next one: the peer's id, then tuples that begin with a part. The thread that handles
        #: it puts another list in its place.
        self.unit: list[Any] = []

    def receive(self) -> list[Any] | None:
        """The next unit, whole; None if there may be none."""
        while True:
            unit = self.unit
            if not unit:
                step: Any = self._memory.take(self._of_id, 1)
                if self.unit is not unit or unit:
                    continue
                unit.extend(step)
                if not unit:
                    return None
                continue
            last = unit[-1]
            if type(last) is tuple and not self._more.value:
                return unit
            more = starmap(native.get_option, (self._more.arguments,))
            if last is unit[0] and last in self._known:
                step = zip(self._memory.take(self._of_part), more)  # noqa: B905 - the first one ends it
            else:
                message = Message()
                taken = native.again(native.receive_message, (message.pointer, self._handle, native.NOW))
                step = zip((message,), taken, more)  # noqa: B905
            if self.unit is not unit or unit[-1] is not last:
                continue
            unit.extend(step)
            if unit[-1] is last:
                return None


class Notes:
    """What the monitor of a socket tells: ``(data, address)`` each."""

    def __init__(self, handle: ctypes.c_void_p) -> None:
        self._memory = Memory(_NOTE_BYTES)
        self._arguments = self._memory.receiving(handle, _NOTE_BYTES)
        #: What is not handled; first in, first out.
        self.kept: deque[tuple[bytes, bytes]] = deque()

    def first(self) -> tuple[bytes, bytes] | None:
        """The oldest one that is not handled, which stays."""
        kept = self.kept
        data, address = (self._memory.take(self._arguments) for _ in range(2))
        step = zip(data, address)  # noqa: B905
        if not kept:
            kept.extend(step)
        if kept:
            return kept[0]
        return None
