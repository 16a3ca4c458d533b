"""The actor behind ``Semaphore`` and ``Lock``. None of its methods waits."""

from __future__ import annotations

import threading

from ray.util.tickets import Ticket, TicketActor, Tickets


class SemaphoreActor(TicketActor):
    """Places, who has them, and the line of those who want one: first come, first served."""

    def __init__(self, value: int) -> None:
        self._tickets = Tickets(self._gone)
        self._value = value
        #: {number: how long its holder may have the place, in seconds} of those who wait.
        self._line: dict[int, float | None] = {}
        #: {number: what takes the place away, if it was lent for a time} of those who have one.
        self._holders: dict[int, threading.Timer | None] = {}

    def made_with(self) -> tuple[int]:
        return (self._value,)

    def free(self) -> int:
        return self._value - len(self._holders)

    def waiting(self) -> int:
        return len(self._line)

    def acquire(self, block: bool, lease_s: float | None) -> tuple[*Ticket, bool] | None:
        """A ticket, and whether the place is taken with it; else it is when the ticket is called. None: not at once."""
        with self._tickets:
            taken = self.free() > 0
            if not (taken or block):
                return None
            number, held = self._tickets.issue()
            if taken:
                self._take(number, lease_s)
            else:
                self._line[number] = lease_s
            return number, held, taken

    def release(self, number: int) -> bool:
        """Whether the holder of this ticket had the place still."""
        with self._tickets:
            return self._gone(number)

    def _take(self, number: int, lease_s: float | None) -> None:
        timer = None
        if lease_s is not None:
            timer = threading.Timer(lease_s, self.release, (number,))
            timer.daemon = True
            timer.start()
        self._holders[number] = timer

    def _gone(self, number: int) -> bool:
        self._line.pop(number, None)
        if number not in self._holders:
            return False
        timer = self._holders.pop(number)
        if timer is not None:
            timer.cancel()
        while self._line and self.free() > 0:
            first = next(iter(self._line))
            self._take(first, self._line.pop(first))
            self._tickets.call(first)
        return True
