"""What a handle on a control store owes to its callers, whichever store it belongs to.

Answers come from any thread, and lie here until the thread that watches the descriptor delivers them.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sys
from _thread import RLock
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from ray.abc.control_operations import Operation
from ray.clock import monotonic
from ray.exceptions import ControlTimeoutError, ControlUnavailableError

_log = logging.getLogger("ray")
_ONE = (1).to_bytes(8, sys.byteorder)


class Debt(NamedTuple):
    """An operation that was asked for, and is not answered."""

    op: Operation[Any]
    on_answer: Callable[[Any], object]
    timeout_s: float
    end: float


class Subscription:
    """One subscription to changes."""

    __slots__ = ("ended", "on_change", "prefix")

    def __init__(self, prefix: str, on_change: Callable[[str], object]) -> None:
        self.prefix, self.on_change = prefix, on_change
        self.ended = False


class AnswerBox:
    """Of one handle. Each ``on_answer`` is called once: the thread that takes the debt out of ``_debts`` answers it."""

    def __init__(self, clock: Callable[[], float] = monotonic, trouble: Callable[[], str] = str) -> None:
        """Open it.

        Args:
            clock: for the deadlines.
            trouble: tells why there may be no answer, for those whose time is over; empty: nothing is known.
        """
        self._clock = clock
        self._trouble = trouble
        self._numbers = itertools.count(1)
        #: Nothing is called while it is held. Re-entrant, as a finaliser may ask in the middle of anything.
        self._lock = RLock()
        #: {number: what was asked, oldest first}
        self._debts: dict[int, Debt] = {}
        #: What to call, oldest first: (function, its argument).
        self._ready: deque[tuple[Callable[[Any], object], Any]] = deque()
        #: Hints that lie in ``_ready``: another of the same kind says nothing new.
        self._hinted: set[tuple[Subscription, str]] = set()
        self.closed = False
        if hasattr(os, "eventfd"):
            self._reading = self._writing = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self._reading, self._writing = os.pipe()
            for fd in (self._reading, self._writing):
                os.set_blocking(fd, False)

    # --- any thread -------------------------------------------------------------------------------------------------

    def owe(self, op: Operation[Any], on_answer: Callable[[Any], object], timeout_s: float) -> int:
        """Note that ``op`` is to be answered; returns its number.

        Raises:
            ControlUnavailableError: the handle is closed.
        """
        with self._lock:
            self.check(type(op).__name__, op.key)
            number = next(self._numbers)
            self._debts[number] = Debt(op, on_answer, timeout_s, self._clock() + timeout_s)
        return number

    def check(self, operation: str, key: str) -> None:
        """See that the handle is open.

        Raises:
            ControlUnavailableError: it is closed.
        """
        if self.closed:
            raise ControlUnavailableError(operation, key, "this handle is closed")

    def owes(self, number: int) -> bool:
        """Whether a caller still waits for it: what has not begun by then is not to begin."""
        return number in self._debts

    def settle(self, number: int, answer: Any) -> None:
        """There is an answer; it is dropped where it comes too late."""
        with self._lock:
            debt = self._debts.pop(number, None)
            if debt is not None:
                self._put(debt.on_answer, answer)

    def expire(self) -> float | None:
        """Answer those whose time is over; returns the seconds until the next one's is, None if nobody waits.

        It looks at every caller: call it before waiting, and not for each operation.
        """
        now = self._clock()
        with self._lock:
            over = [number for number, debt in self._debts.items() if debt.end <= now]
            trouble = self._trouble() if over else ""
            for number in over:
                op, _, timeout_s, _ = self._debts[number]
                self.settle(number, ControlTimeoutError(type(op).__name__, op.key, timeout_s, trouble))
            ends = [debt.end for debt in self._debts.values()]
        return min(ends) - now if ends else None

    def hint(self, subscription: Subscription, key: str) -> None:
        """Something has changed at ``key``."""
        with self._lock:
            if not (subscription.ended or self.closed or (subscription, key) in self._hinted):
                self._hinted.add((subscription, key))
                self._put(self._tell, (subscription, key))

    # --- the thread that watches ------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Readable while there is something to deliver."""
        return self._reading

    def deliver(self) -> None:
        """Call every callback that something has come for."""
        if self.closed:
            return
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, 4096)
        try:
            self._call(len(self._ready))
        finally:
            with self._lock:
                if self._ready and not self.closed:
                    self._wake()

    def close(self) -> None:
        """Deliver what is here, answer the rest with ControlUnavailableError, and let go of the descriptor."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            for op, on_answer, _, _ in self._debts.values():
                name = type(op).__name__
                self._ready.append((on_answer, ControlUnavailableError(name, op.key, "it was closed meanwhile")))
            self._debts.clear()
        try:
            self._call(len(self._ready))
        finally:
            for fd in {self._reading, self._writing}:
                os.close(fd)

    def _put(self, function: Callable[[Any], object], argument: Any) -> None:
        """Under the lock: the descriptor is open."""
        self._ready.append((function, argument))
        self._wake()

    def _call(self, count: int) -> None:
        for _ in range(count):
            if not self._ready:  # a callback has closed the handle, which has called the rest
                return
            function, argument = self._ready.popleft()
            try:
                function(argument)
            except Exception:
                _log.exception("what waited for the control store failed")

    def _tell(self, hinted: tuple[Subscription, str]) -> None:
        with self._lock:  # first: what changes from now on is another hint
            self._hinted.discard(hinted)
        subscription, key = hinted
        if not (subscription.ended or self.closed):
            subscription.on_change(key)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # a pipe that is full wakes as well
            os.write(self._writing, _ONE)
