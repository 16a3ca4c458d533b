"""The actor that keeps signals. None of its methods waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from ray.util.tickets import Ticket, TicketActor, Tickets

#: Of each source so many are kept.
KEPT = 1000


class SignalBoard(TicketActor):
    """What was sent, by source, and who waits for more."""

    def __init__(self) -> None:
        self._tickets = Tickets(self._gone)
        self._signals: dict[str, deque[Any]] = {}
        #: {source: how many it has sent}
        self._sent: dict[str, int] = {}
        #: {number: the sources that its holder waits for}
        self._waiting: dict[int, frozenset[str]] = {}

    def send(self, source: str, signal: Any) -> None:
        with self._tickets:
            self._signals.setdefault(source, deque(maxlen=KEPT)).append(signal)
            self._sent[source] = self._sent.get(source, 0) + 1
            for number in [number for number, sources in self._waiting.items() if source in sources]:
                del self._waiting[number]
                self._tickets.call(number)

    def receive(self, since: Mapping[str, int]) -> dict[str, tuple[int, list[Any]]] | Ticket:
        """``{source: (how many it has sent, those after the first so many)}``; a ticket, if there are none."""
        with self._tickets:
            found = {}
            for source, received in since.items():
                new = self._sent.get(source, 0) - received
                if new > 0:
                    found[source] = self._sent[source], list(self._signals[source])[-new:]
            if found:
                return found
            number, held = self._tickets.issue()
            self._waiting[number] = frozenset(since)
            return number, held

    def count(self, sources: Iterable[str]) -> dict[str, int]:
        """How many each has sent."""
        with self._tickets:
            return {source: self._sent.get(source, 0) for source in sources}

    def _gone(self, number: int) -> None:
        self._waiting.pop(number, None)
