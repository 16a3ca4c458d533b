"""The actor behind ``Barrier``. None of its methods waits."""

from __future__ import annotations

from ray.util.tickets import Ticket, TicketActor, Tickets


class BarrierActor(TicketActor):
    """Who has come, and what those who were let go on are to be told."""

    def __init__(self, parties: int) -> None:
        self._tickets = Tickets(self._gone)
        self._parties = parties
        self._broken = False
        #: Numbers of those who wait, in the order in which they came.
        self._waiting: list[int] = []
        #: {number: in which place it came, or None: the barrier was broken} of those who were called.
        self._called: dict[int, int | None] = {}

    def made_with(self) -> tuple[int]:
        return (self._parties,)

    def state(self) -> tuple[int, bool]:
        """How many wait, and whether it is broken."""
        return len(self._waiting), self._broken

    def wait(self) -> Ticket | None:
        """A ticket; None: the barrier is broken."""
        with self._tickets:
            if self._broken:
                return None
            number, held = self._tickets.issue()
            self._waiting.append(number)
            if len(self._waiting) == self._parties:
                self._call({waiting: place for place, waiting in enumerate(self._waiting)})
            return number, held

    def place(self, number: int) -> int | None:
        """In which place the holder of a called ticket came; None: the barrier was broken. It breaks, if not called."""
        with self._tickets:
            if number in self._waiting:
                self._break()
            return self._called.pop(number, None)

    def abort(self) -> None:
        with self._tickets:
            self._break()

    def reset(self) -> None:
        with self._tickets:
            self._break()
            self._broken = False

    def _break(self) -> None:
        self._broken = True
        self._call(dict.fromkeys(self._waiting))

    def _call(self, told: dict[int, int | None]) -> None:
        self._waiting = []
        self._called |= told
        for number in told:
            self._tickets.call(number)

    def _gone(self, number: int) -> None:
        self._called.pop(number, None)
        if number in self._waiting:  # the others would wait in vain
            self._waiting.remove(number)
            self._break()
