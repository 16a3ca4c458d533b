"""Memory files that their creators can write again once nobody sees what is in them: their pages are there already.

A seal refuses every process a mapping for writing, but leaves the ones that exist. So the creator of an object, and no
other process ever, can use its memory for the next one.
"""

from __future__ import annotations

import bisect


class Segment:
    """The memory of a sealed object, and later perhaps of another one."""

    __slots__ = ("fd", "is_open", "is_written", "keeper", "nbytes", "number", "since")

    def __init__(self, number: int, fd: int, nbytes: int) -> None:
        #: The serial of its first object.
        self.number = number
        self.fd = fd
        self.nbytes = nbytes
        #: The client that can write it again; 0 if there is none.
        self.keeper = 0
        #: The keeper's mapping is not protected, since nobody has read what it has written last.
        self.is_open = False
        #: It is being written again.
        self.is_written = False
        #: When it was found to be spare.
        self.since: float | None = None


class Spares:
    """Which client keeps which segments, and which of these are in no use. The caller closes what is taken out."""

    def __init__(self) -> None:
        #: Of all that are spare.
        self.nbytes = 0
        #: {client: how many segments it wants to keep at most}
        self._limits: dict[int, int] = {}
        #: {client: {number: segment}}, used and spare, in the order of their making
        self._kept: dict[int, dict[int, Segment]] = {}
        #: {client: sorted (size, number) of its spare ones}
        self._sizes: dict[int, list[tuple[int, int]]] = {}
        #: {number: segment}, spare for longest first
        self._spare: dict[int, Segment] = {}

    def __len__(self) -> int:
        """How many are spare."""
        return len(self._spare)

    def __contains__(self, segment: Segment) -> bool:
        """Whether it is spare."""
        return segment.number in self._spare

    def join(self, client: int, limit: int) -> None:
        """A client is going to keep so many segments."""
        self._limits[client] = limit
        self._kept[client], self._sizes[client] = {}, []

    def leave(self, client: int) -> list[Segment]:
        """It is gone, and keeps nothing; returns what was spare."""
        kept = list(self._kept.get(client, {}).values())
        spare = [segment for segment in kept if segment in self]
        for segment in kept:
            self.forget(segment)
        for each in (self._limits, self._kept, self._sizes):
            each.pop(client, None)
        return spare

    def can_keep(self, client: int) -> bool:
        """Whether the client has said that it is going to."""
        return bool(self._limits.get(client))

    def keep(self, segment: Segment, client: int) -> Segment | None:
        """The client keeps a new segment; returns one that is too many then, and is not being written."""
        kept = self._kept[client]
        segment.keeper = client
        kept[segment.number] = segment
        if len(kept) <= self._limits[client]:
            return None
        idle = [each for each in kept.values() if not each.is_written]
        return next((each for each in idle if each in self), idle[0])

    def forget(self, segment: Segment) -> None:
        """Nobody can write it again; it is not spare any more, if it was."""
        if segment in self:
            self._use(segment)
        del self._kept[segment.keeper][segment.number]
        segment.keeper = 0

    def give(self, segment: Segment) -> None:
        """A kept segment is in no use any more."""
        segment.is_written = False
        self._spare[segment.number] = segment
        bisect.insort(self._sizes[segment.keeper], (segment.nbytes, segment.number))
        self.nbytes += segment.nbytes

    def take(self, client: int, nbytes: int, most: int) -> Segment | None:
        """One for an object of the client's: large enough, at most an eighth too large, not larger than ``most``."""
        sizes = self._sizes.get(client)
        if not sizes:
            return None
        at = bisect.bisect_left(sizes, (nbytes, 0))
        if at == len(sizes) or sizes[at][0] > min(most, nbytes + nbytes // 8):
            return None
        segment = self._spare[sizes[at][1]]
        self._use(segment)
        segment.is_written = segment.is_open = True
        return segment

    def oldest(self) -> Segment:
        """The one that has been spare for longest; there is one."""
        return next(iter(self._spare.values()))

    def expired(self, now: float, keep_s: float) -> list[Segment]:
        """Those that have been spare for so long; the new ones are from now."""
        for segment in reversed(self._spare.values()):
            if segment.since is not None:
                break
            segment.since = now
        found = []
        for segment in self._spare.values():
            if segment.since is None or segment.since + keep_s > now:
                break
            found.append(segment)
        return found

    def next_deadline(self, keep_s: float) -> float | None:
        """When to call ``expired``."""
        if not self._spare:
            return None
        since = self.oldest().since
        return 0.0 if since is None else since + keep_s

    def _use(self, segment: Segment) -> None:
        del self._spare[segment.number]
        sizes = self._sizes[segment.keeper]
        del sizes[bisect.bisect_left(sizes, (segment.nbytes, segment.number))]
        self.nbytes -= segment.nbytes
        segment.since = None
