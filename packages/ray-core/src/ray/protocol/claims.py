"""What borrowers say that they hold, so that the end of a process that had handed it to them frees nothing.

A giver tells the owner of a credit before its own hold ends (rule 3 of ``ray.protocol.references``). Between nodes a
giver may die with that word in its queue, while the ref itself has arrived. So a process that keeps a ref which it has
from a process of another node than the owner's says so to the owner, and how many credits it was handed. What a giver
held is struck out only a while after its end is known: by then such claims have come, and what is missing is made up.
"""

from __future__ import annotations

from ray.protocol.references import ReferenceTable


class Claims:
    """Of one owner."""

    def __init__(self, table: ReferenceTable) -> None:
        """``table``: of its objects."""
        self._table = table
        #: {process id of a borrower: {object id: credits that it was handed}}; each is a pin of the object.
        self.held: dict[bytes, dict[bytes, int]] = {}

    def claim(self, id: bytes, borrower: bytes, handed: int) -> None:
        """A borrower keeps an object, and was handed so many credits; unknown ids are freed already and ignored."""
        entry = self._table.hold(id)
        if entry is None:
            return
        of_borrower = self.held.setdefault(borrower, {})
        is_new = id not in of_borrower
        of_borrower[id] = handed
        if not is_new:
            self._table.unpin((entry,))

    def returned(self, id: bytes, borrower: bytes) -> None:
        """It has let go, and returned all credits that it was handed."""
        of_borrower = self.held.get(borrower)
        if of_borrower is None or of_borrower.pop(id, None) is None:
            return
        if not of_borrower:
            self.held.pop(borrower, None)
        entry = self._table.entries.get(id)
        if entry is not None:
            self._table.unpin((entry,))

    def strike_out(self, gone: bytes) -> None:
        """A process has ended a while ago: it holds nothing, and what it has not said of others will not be said."""
        table = self._table
        for borrower, claimed in list(self.held.items()):
            if borrower == gone:
                continue
            for id, handed in list(claimed.items()):
                entry = table.entries.get(id)
                if entry is not None:
                    counted = (entry.credits or {}).get(borrower, 0)
                    if counted < handed:
                        table.grant(entry, borrower, handed - counted)
        for entry, borrower, credits in table.owing():
            table.grant(entry, borrower, -credits)  # it has returned what nobody has told of
        self.let_go(gone)

    def let_go(self, gone: bytes) -> None:
        """A process has ended: it holds nothing."""
        for id in list(self.held.get(gone, ())):
            self.returned(id, gone)
        self._table.borrower_lost(gone)
