"""The actor behind ``ray.util.queue.Queue``. None of its methods waits, so one thread serves any number of callers."""

from __future__ import annotations

from collections import deque
from typing import Any

from ray.util.tickets import Ticket, TicketActor, Tickets


class QueueActor(TicketActor):
    """Items in order, and those who wait for items or for room, first come, first served."""

    def __init__(self, maxsize: int) -> None:
        self._tickets = Tickets(self._gone)
        self._maxsize = maxsize
        self._items: deque[Any] = deque()
        #: Numbers of those who wait for an item.
        self._getters: dict[int, None] = {}
        #: {number: the items} of those who wait for room.
        self._putters: dict[int, list[Any]] = {}
        #: {number: the item} of getters that were called and have not come for it.
        self._handed: dict[int, Any] = {}

    def qsize(self) -> int:
        return len(self._items)

    def empty(self) -> bool:
        return not self._items

    def full(self) -> bool:
        return not self._has_room(1)

    def put(self, items: list[Any], block: bool) -> int | Ticket | None:
        """All of the items or none.

        Returns:
            None: they are in. The size: there is no room. A ticket: they are put when it is called.
        """
        with self._tickets:
            if self._has_room(len(items)):
                self._items.extend(items)
                self._serve()
                return None
            if not block:
                return len(self._items)
            number, held = self._tickets.issue()
            self._putters[number] = items
            return number, held

    def get(self, wanted: int, block: bool) -> list[Any] | int | Ticket:
        """As many items as are wanted, or none.

        Returns:
            The items. The size: there are too few. A ticket: ``claim`` the item when it is called.
        """
        with self._tickets:
            if len(self._items) >= wanted:
                taken = [self._items.popleft() for _ in range(wanted)]
                self._serve()
                return taken
            if not block:
                return len(self._items)
            number, held = self._tickets.issue()
            self._getters[number] = None
            return number, held

    def claim(self, number: int) -> list[Any]:
        """The item that a called ticket stands for; none where its holder was taken for dead meanwhile."""
        with self._tickets:
            return [self._handed.pop(number)] if number in self._handed else []

    def give_back(self, outcome: object) -> None:
        """What a method has returned to somebody who waited no more."""
        super().give_back(outcome)
        if isinstance(outcome, list):
            with self._tickets:
                self._items.extendleft(reversed(outcome))
                self._serve()

    def _has_room(self, items: int) -> bool:
        return self._maxsize <= 0 or len(self._items) + items <= self._maxsize

    def _serve(self) -> None:
        while True:
            if self._getters and self._items:
                number = next(iter(self._getters))
                del self._getters[number]
                self._handed[number] = self._items.popleft()
            elif self._putters and self._has_room(1):
                number = next(iter(self._putters))
                self._items.extend(self._putters.pop(number))
            else:
                return
            self._tickets.call(number)

    def _gone(self, number: int) -> bool:
        """Whether its items, if it is a putter's, were not put and now are not."""
        withdrawn = self._putters.pop(number, None) is not None
        self._getters.pop(number, None)
        if number in self._handed:
            self._items.appendleft(self._handed.pop(number))
            self._serve()
        return withdrawn
