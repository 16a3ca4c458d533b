"""The actor behind ``Variable`` and ``Event``. None of its methods waits."""

from __future__ import annotations

from typing import Any

from ray.util.tickets import Ticket, TicketActor, Tickets


class VariableActor(TicketActor):
    """A value, and who waits for the first one."""

    def __init__(self) -> None:
        self._tickets = Tickets(self._gone)
        #: None, or the value in a list.
        self._value: list[Any] | None = None
        self._waiting: set[int] = set()

    def set(self, value: list[Any]) -> None:
        """The value in a list: a ref is to stay one."""
        with self._tickets:
            self._value = value
            while self._waiting:
                self._tickets.call(self._waiting.pop())

    def clear(self) -> None:
        with self._tickets:
            self._value = None

    def get(self, block: bool) -> list[Any] | Ticket | None:
        """The value in a list; else a ticket that is called when there is one; or None, if that is not wanted."""
        with self._tickets:
            if self._value is not None or not block:
                return self._value
            number, held = self._tickets.issue()
            self._waiting.add(number)
            return number, held

    def _gone(self, number: int) -> None:
        self._waiting.discard(number)
