"""The actor behind ``Variable``. None of its methods waits."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.tickets import Tickets


class VariableActor:
    """A value, and who waits for the first one."""

    def __init__(self) -> None:
        #: None, or the value in a list.
        self._value: list[Any] | None = None
        self._tickets = Tickets(self._gone)
        self._waiting: dict[int, None] = {}

    def made_with(self) -> tuple[()]:
        return ()

    def set(self, value: list[Any]) -> None:
        """The value in a list: a ref is to stay one."""
        with self._tickets:
            self._value = value
            while self._waiting:
                self._tickets.call(self._waiting.popitem()[0])

    def clear(self) -> None:
        with self._tickets:
            self._value = None

    def get(self, block: bool) -> list[Any] | tuple[int, list[ray.ObjectRef[None]]] | None:
        """The value in a list; else a ticket that is called when there is one; or None, if that is not wanted."""
        with self._tickets:
            if self._value is not None or not block:
                return self._value
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
