"""A thread that waits for values to be on this node, whether they have to be made first or to be brought here."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Protocol

from ray.messages.objects import WAIT
from ray.protocol.references import AWAY, ObjectEntry
from ray.runtime.process.waiting import Waiter, remove_waiter


class Brings(Protocol):
    """Values that are in the stores of other nodes."""

    def is_here(self, entry: ObjectEntry) -> bool: ...
    def bring(self, entry: ObjectEntry, urgency: int, then: Callable[[], None] | None = None) -> None: ...


class ArrivalWaiter(Waiter):
    """Waits for ``needed`` of them. Its methods are called under the runtime's lock."""

    __slots__ = ("_away", "_is_over", "here")

    call = "ray.wait"

    def __init__(self, needed: int, entries: Collection[ObjectEntry], away: Brings) -> None:
        super().__init__(needed, entries)
        self._away = away
        self._is_over = False
        #: Those that have come, or never will: a read of these does not wait.
        self.here: set[ObjectEntry] = set()

    def begin(self) -> None:
        """Look at all of them, and have brought what is to be."""
        for entry in self.entries:
            if not entry.call_when_done(self._complete):
                self._complete(entry)

    def end(self) -> None:
        """Nobody waits any more; what is on its way comes all the same."""
        self._is_over = True
        for entry in self.entries:
            remove_waiter(entry, self._complete)

    def _complete(self, entry: ObjectEntry) -> None:
        if self._is_over:
            return
        if entry.status != AWAY or self._away.is_here(entry):
            self._arrived(entry)
        else:
            self._away.bring(entry, WAIT, partial(self._arrived, entry))

    def _arrived(self, entry: ObjectEntry) -> None:
        if entry not in self.here:
            self.here.add(entry)
            self.count()
