"""The demands that wait for workers, in the order of service: a pure machine that stays fast as the queue grows.

Entries that need the same are kept together: where one of them finds no room the rest need not be looked at, so a
decision costs the kinds of needs, not the number of demands.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterator
from operator import itemgetter
from typing import TypeAlias

import msgspec

from ray.abc.scheduler import ResourceRequest
from ray.messages.placement import Placement

#: Needs, for telling equal ones.
Shape: TypeAlias = frozenset[tuple[str, int]]
DemandKey: TypeAlias = tuple[bytes, int]
"""(owner's process id, the owner's number for the scheduling class)."""

_place = itemgetter(0)


class DemandEntry(msgspec.Struct):
    """One owner's wish for workers of one class."""

    key: DemandKey
    request: ResourceRequest
    count: int
    name: str
    turn: int
    job: str = ""
    #: An actor is to be placed: it keeps its worker for life, so that nothing is taken from it.
    for_life: bool = False
    placement: Placement | None = None
    #: Another node manager asks, for its owners: the worker has to be one of this node.
    on_loan: bool = False
    #: This node can never serve it: it has too little, or the placement wants another one.
    infeasible: bool = False
    #: Number of the node that is to serve it if that is soon; empty: none.
    prefer: bytes = b""
    #: This node has room, and the policy prefers another one.
    elsewhere: bool = False
    #: Its owner was told that no node could ever serve it.
    told: bool = False
    #: Workers that are starting for it, as far as there is room for them.
    placed: int = 0
    #: Leases of others that were revoked for it.
    revoked: int = 0
    #: Monotonic time since when it has waited without a worker, as far as that was looked at, and whether that is long.
    since: float | None = None
    overdue: bool = False


class Line(msgspec.Struct, eq=False):
    """Entries of one job that need the same, at the same nodes, preferably the same one, with the same depth and
    priority: owners that hold nothing first, then by turn.
    """

    rank: tuple[int, int]
    shape: Shape
    job: str
    placement: Placement | None
    prefer: bytes
    #: Nothing but a number limits these.
    free: bool
    #: ((holds, turn), entry); turns are unique.
    entries: list[tuple[tuple[bool, int], DemandEntry]] = msgspec.field(default_factory=list)


class WaitingLines:
    """Deeper askers go first, then higher priority, then owners that hold no worker of the class, then by turn."""

    def __init__(self) -> None:
        self._lines: dict[tuple[int, int, bool, Shape, str, Placement | None, bytes], Line] = {}
        #: {key of an entry: its line, and its place there}
        self._places: dict[DemandKey, tuple[Line, tuple[bool, int]]] = {}

    def put(self, entry: DemandEntry, *, holds: bool, free: bool) -> None:
        """Enter an entry, or move it to where it belongs by now."""
        self.remove(entry.key)
        request = entry.request
        shape = frozenset(request.resources.items())
        key = (-request.depth, -request.priority, free, shape, entry.job, entry.placement, entry.prefer)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(key[:2], shape, entry.job, entry.placement, entry.prefer, free)
        place = (holds, entry.turn)
        bisect.insort(line.entries, (place, entry), key=_place)
        self._places[entry.key] = line, place

    def remove(self, key: DemandKey) -> None:
        """Forget an entry, if it is there."""
        line, place = self._places.pop(key, (None, (False, 0)))
        if line is None:
            return
        del line.entries[bisect.bisect_left(line.entries, place, key=_place)]
        if not line.entries:
            del self._lines[*line.rank, line.free, line.shape, line.job, line.placement, line.prefer]

    def in_order(self, closed: set[Line]) -> Iterator[tuple[Line, DemandEntry]]:
        """All entries in the order of service, without the rest of the lines that the caller adds to ``closed``.

        Nothing may be entered, moved or removed meanwhile.
        """
        heads = [(line.rank, line.entries[0][0], 0, line) for line in self._lines.values()]
        heapq.heapify(heads)  # never compares lines: places are unique
        while heads:
            rank, _, index, line = heads[0]
            yield line, line.entries[index][1]
            index += 1
            if line in closed or index == len(line.entries):
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (rank, line.entries[index][0], index, line))
