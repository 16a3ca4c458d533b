"""What has happened, as far as a table keeps it in mind: rare events, as a note for each task would cost too much."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

#: So many events are kept.
_KEPT_EVENTS = 1000


class Event(NamedTuple):
    """Something worth a word, at a place (a lease, an actor), about a piece of work (a task, a call) or about none."""

    now: float
    what: str
    place: bytes
    work: bytes


class Story:
    """The newest events of one table."""

    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=_KEPT_EVENTS)

    def note(self, now: float, what: str, place: bytes, work: bytes = b"") -> None:
        """It has happened now."""
        self._events.append(Event(now, what, place, work))

    def lines(self, wanted: Callable[[Event], bool]) -> list[str]:
        """The time and the words of each event that is ``wanted``."""
        return [f"{event.now:.6f} {event.what}" for event in list(self._events) if wanted(event)]


def check(holds: bool, what: str) -> None:
    """Raise AssertionError if an invariant does not hold; also under ``python -O``."""
    if not holds:
        raise AssertionError(what)
