"""The actor behind ``Event``. None of its methods waits."""

from __future__ import annotations

import ray
from ray.util.tickets import Tickets


class EventActor:
    """Whether it is set, and who waits for that."""

    def __init__(self) -> None:
        self._set = False
        self._tickets = Tickets(self._gone)
        self._waiting: dict[int, None] = {}

    def made_with(self) -> tuple[()]:
        return ()

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        with self._tickets:
            self._set = True
            while self._waiting:
                self._tickets.call(self._waiting.popitem()[0])

    def clear(self) -> None:
        with self._tickets:
            self._set = False

    def wait(self) -> tuple[int, list[ray.ObjectRef[None]]] | None:
        """A ticket that is called when it is set; None if it is."""
        with self._tickets:
            if self._set:
                return None
            number, held = self._tickets.issue()
            self._waiting[number] = None
            return number, held

    def withdraw(self, number: int) -> None:
        with self._tickets:
            self._gone(number)

    def give_back(self, outcome: object) -> None:
        """What a method has returned to somebody who waited no more."""
        if isinstance(outcome, tuple):
            self.withdraw(outcome[0])

    def _gone(self, number: int) -> None:
        self._waiting.pop(number, None)
