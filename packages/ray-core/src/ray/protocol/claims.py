"""What borrowers say that they hold, so that the end of a process that had handed it to them frees nothing.

A giver tells the owner of a credit before its own hold ends (rule 3 of ``ray.protocol.references``). Between nodes a
giver may die with that word in its queue, while the ref itself has arrived. So a process that keeps a ref which it has
from a process of another node than the owner's says so to the owner, and how many credits each such giver has handed
it; with the return of its credits it says that again. What a giver held is struck out only a while after its end is
known: by then such claims have come, and what this giver has not told of is made up. What a living giver has not told
of is still to come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ray.protocol.references import ReferenceTable


class Lost(NamedTuple):
    """A process that has ended, or with which what was said is over."""

    process: bytes
    #: {object id: credits} that it had then.
    credits: dict[bytes, int]
    #: Objects that it had claimed.
    claimed: list[bytes]


class Claims:
    """Of one owner."""

    def __init__(self, table: ReferenceTable) -> None:
        """``table``: of its objects."""
        self._table = table
        #: {process id of a borrower: {object id: {giver: credits that it has handed}}}; each id is a pin of the object.
        self.held: dict[bytes, dict[bytes, dict[bytes, int]]] = {}
        #: {(borrower, object id): {giver: credits that it has told of, less those that were returned}}
        self._told: dict[tuple[bytes, bytes], dict[bytes, int]] = {}
        #: {process id: what is to be struck out}
        self._lost: dict[bytes, list[Lost]] = {}

    def told(self, id: bytes, borrower: bytes, giver: bytes, credits: int) -> None:
        """A giver of another node says that it has handed on so many credits."""
        told = self._told.setdefault((borrower, id), {})
        left = told.get(giver, 0) + credits
        told[giver] = left
        if not left:
            told.pop(giver, None)
        if not told:
            self._told.pop((borrower, id), None)

    def claim(self, id: bytes, borrower: bytes, given: Iterable[tuple[bytes, int]]) -> None:
        """A borrower keeps an object, and who has handed it credits; unknown ids are freed already and ignored."""
        entry = self._table.hold(id)
        if entry is None:
            return
        of_borrower = self.held.setdefault(borrower, {})
        is_new = id not in of_borrower
        of_borrower[id] = dict(given)
        if not is_new:
            self._table.unpin((entry,))

    def returned(self, id: bytes, borrower: bytes, given: Iterable[tuple[bytes, int]]) -> None:
        """It has let go, and returned all credits that it was handed, these among them."""
        for giver, credits in given if id in self._table.entries else ():
            self.told(id, borrower, giver, -credits)
        of_borrower = self.held.get(borrower)
        if of_borrower is None or of_borrower.pop(id, None) is None:
            return
        if not of_borrower:
            self.held.pop(borrower, None)
        self._unpin(id)

    def _unpin(self, id: bytes) -> None:
        entry = self._table.entries.get(id)
        if entry is not None:
            self._table.unpin((entry,))

    def lose(self, gone: bytes) -> Lost:
        """What is said to a process is over: what it has now is to be struck out in a while."""
        credits = self._table.lent_to(gone)
        earlier = self._lost.setdefault(gone, [])
        for other in earlier:  # it had come back, and is lost again
            for id, count in other.credits.items():
                credits[id] = credits.get(id, 0) - count
        lost = Lost(gone, credits, list(self.held.pop(gone, ())))
        earlier.append(lost)
        self._forget_told(gone)
        return lost

    def strike_out(self, lost: Lost, *, is_back: bool) -> None:
        """That was a while ago: what the process held is void, and what it has not said of others will not be said.

        ``is_back``: the process lives, and had lost all that was said. What it has been handed since is its own.
        """
        gone = lost.process
        for (borrower, id), missing in self._untold_by(gone):
            entry = self._table.entries.get(id)
            if entry is not None:
                self._table.grant(entry, borrower, missing)
            self.told(id, borrower, gone, missing)
        for id, credits in lost.credits.items():
            entry = self._table.entries.get(id)
            if entry is not None:
                self._table.grant(entry, gone, -credits)
        for id in lost.claimed:
            self._unpin(id)
        for key in [key for key in list(self._told) if key[1] not in self._table.entries]:
            self._told.pop(key, None)  # it is freed
        left = self._lost[gone]
        left.remove(lost)
        if not left:
            del self._lost[gone]
            if not is_back:
                self.let_go(gone)

    def _untold_by(self, giver: bytes) -> list[tuple[tuple[bytes, bytes], int]]:
        """What borrowers have, or had, from a giver that has not told of it."""
        claimed: dict[tuple[bytes, bytes], Mapping[bytes, int]] = {
            (borrower, id): given
            for borrower, of_borrower in list(self.held.items())
            for id, given in list(of_borrower.items())
        }
        untold = []
        for key in {*claimed, *self._told}:
            missing = claimed.get(key, {}).get(giver, 0) - self._told.get(key, {}).get(giver, 0)
            if missing > 0 and key[0] != giver:
                untold.append((key, missing))
        return untold

    def let_go(self, gone: bytes) -> None:
        """A process has ended: it holds nothing, and hands on nothing."""
        for id in list(self.held.get(gone, ())):
            self.returned(id, gone, ())
        self._forget_told(gone)
        for key, told in list(self._told.items()):
            if told.pop(gone, None) is not None and not told:
                self._told.pop(key, None)
        self._table.borrower_lost(gone)

    def _forget_told(self, borrower: bytes) -> None:
        for key in [key for key in list(self._told) if key[0] == borrower]:
            self._told.pop(key, None)
