"""Memory that a store has used and may use again: pages touched before cost nothing to touch again."""

from __future__ import annotations

import mmap
import sys

#: Kept for the next object of the same size; more goes back to the system at once.
MAX_SPARE_BYTES = 32 * 1024 * 1024
#: More references than the local of ``give`` and the argument of ``getrefcount``: somebody has a view of it.
_UNSEEN = 3


class WarmPages:
    """Maps by size. The caller serialises calls."""

    def __init__(self) -> None:
        #: {size: maps}
        self._spare: dict[int, list[mmap.mmap]] = {}
        self._bytes = 0

    def take(self, nbytes: int) -> mmap.mmap | None:
        """A map of exactly this size, with whatever was in it, or None."""
        spare = self._spare.get(nbytes)
        if not spare:
            return None
        self._bytes -= nbytes
        return spare.pop()

    def give(self, holder: list[mmap.mmap]) -> None:
        """Keep the one map in ``holder`` unless somebody still sees it or there is enough; empties ``holder``."""
        memory = holder.pop()
        nbytes = len(memory)
        if self._bytes + nbytes <= MAX_SPARE_BYTES and sys.getrefcount(memory) < _UNSEEN:
            self._spare.setdefault(nbytes, []).append(memory)
            self._bytes += nbytes

    def clear(self) -> None:
        """Back to the system with all of it."""
        self._spare.clear()
        self._bytes = 0
