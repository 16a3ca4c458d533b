"""Which nodes are sent which objects, so that one that many want goes on from node to node, not from one to all."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

#: Nodes that an object is sent to at a time. Once it was sent to so many, others are told to ask those first …
MOST = 2
#: … if it has so many bytes; what is smaller is there before another node could be asked.
TREE_BYTES = 4 << 20
#: Nodes that are named to one that asks.
_MOST_NAMED = 16
#: Objects that are remembered.
_MOST_OBJECTS = 4096


class _Object(msgspec.Struct):
    #: {node: requests of it that are being answered}
    active: dict[bytes, int] = msgspec.field(default_factory=dict)
    #: Those that were sent it, or a part of it; which one is named first changes.
    known: OrderedDict[bytes, None] = msgspec.field(default_factory=OrderedDict)
    #: Those that were told of others first.
    told: set[bytes] = msgspec.field(default_factory=set)


class Receivers:
    """Of one node. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: OrderedDict[bytes, _Object] = OrderedDict()

    def enter(self, key: bytes, node: bytes, nbytes: int) -> tuple[bool, Sequence[bytes]]:
        """A node asks for an object; whether it is sent it now, and which others have it, or will have it soon."""
        with self._lock:
            found = self._objects.setdefault(key, _Object())
            self._objects.move_to_end(key)
            active, known = found.active, found.known
            others = [other for other in known if other != node][:_MOST_NAMED]
            is_new = node not in known and node not in found.told
            if nbytes >= TREE_BYTES and node not in active and len(known if is_new else active) >= MOST:
                found.told.add(node)
                for other in others[:1]:  # the next one is sent to another node first
                    known.move_to_end(other)
                return False, others
            active[node] = active.get(node, 0) + 1
            known[node] = None
            self._trim()
            return True, others

    def _trim(self) -> None:
        while len(self._objects) > _MOST_OBJECTS:
            oldest = next((key for key, found in self._objects.items() if not found.active), None)
            if oldest is None:
                return
            del self._objects[oldest]

    def leave(self, key: bytes, node: bytes) -> None:
        """What ``enter`` has let begin has ended."""
        with self._lock:
            active = self._objects[key].active
            active[node] -= 1
            if not active[node]:
                del active[node]

    def forget(self, key: bytes) -> None:
        """The object is gone."""
        with self._lock:
            found = self._objects.get(key)
            if found is not None and not found.active:
                del self._objects[key]
