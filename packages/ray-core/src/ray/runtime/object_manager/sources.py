"""Whom to ask for an object next: the node that has made it, and those that it has gone to, at least in part.

In rounds: each is asked once, until one sends something. Used by one thread; ``gone`` by any.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Rounds in a row in which nobody sent anything, or had others before this one: at least so many, …
_MAX_FAILURES = 2
#: … and for as long as this: another process may be about to take the place of one that has died.
PATIENCE_S = 0.5
#: The second round in a row begins after this time, and each one after twice as long, …
_PAUSE_S, _LONGEST_S = 0.02, 0.2
#: … or after this where it was not for others.
_FAILED_S, _LONGEST_FAILED_S = 0.1, 0.8


class RefusedError(Exception):
    """The node does not have it."""


class Sources:
    """Of one object."""

    def __init__(self, own: bytes, origin: bytes) -> None:
        """``own``: this node; ``origin``: the node that has made the object."""
        self._own = own
        self._origin = origin
        #: Others that are said to have it, those that were named last first.
        self._others: list[bytes] = []
        self._tried: set[bytes] = set()
        #: Those that are not asked any more: they are dead, or do not have it.
        self._gone: set[bytes] = set()
        self._was_busy = False
        self._failures = self._rounds = 0
        #: When the first round in a row was over in which all failed.
        self._since = 0.0
        self._error: Exception = ConnectionError("nobody was asked")

    def next(self) -> bytes | None:
        """The next one of this round; None: it is over."""
        for node in (self._origin, *self._others):
            if node not in self._tried and node not in self._gone:
                return node
        return None

    def named(self, nodes: Iterable[bytes]) -> None:
        """These have it, or will have it soon."""
        found = [node for node in nodes if node not in (self._own, self._origin)]
        self._others = found + [node for node in self._others if node not in found]

    def busy(self, node: bytes) -> None:
        """It has others to send it to first."""
        self._tried.add(node)
        self._was_busy = True

    def refused(self, node: bytes, reason: str) -> None:
        """It does not have it, or not the next part of it."""
        self._gone.add(node)
        if node == self._origin:
            self._error = RefusedError(reason)

    def failed(self, node: bytes, error: Exception) -> None:
        """It was not reached, or the connection broke before anything came."""
        self._tried.add(node)
        if not isinstance(self._error, RefusedError):
            self._error = error

    def sent(self) -> None:
        """Something came: all of them may be asked again."""
        self._tried.clear()
        self._failures = self._rounds = 0
        self._was_busy = False

    def gone(self, node: bytes) -> None:
        """That node is dead."""
        self._gone.add(node)

    def again(self, now: float) -> float:
        """Begin another round; returns after how long.

        Raises:
            RefusedError: the object is nowhere.
            OSError: it is not to be had now.
        """
        was_busy, self._was_busy = self._was_busy, False
        self._tried.clear()
        if was_busy:
            self._failures = 0
            self._rounds += 1
            return float(min(_PAUSE_S * (2.0 ** min(self._rounds - 1, 10) - 1), _LONGEST_S))
        if self._gone.issuperset((self._origin, *self._others)):
            raise self._error
        self._failures += 1
        self._since = self._since if self._failures > 1 else now
        if self._failures >= _MAX_FAILURES and now - self._since >= PATIENCE_S:
            raise self._error
        return float(min(_FAILED_S * 2.0 ** min(self._failures - 1, 10), _LONGEST_FAILED_S))
