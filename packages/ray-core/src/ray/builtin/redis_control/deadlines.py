"""Tells those whose time is over, on a thread of its own: the one that uses the server may wait for it meanwhile."""

from __future__ import annotations

import math

from ray.abc.answer_box import AnswerBox
from ray.clock import monotonic
from ray.threads import Flag, UnawaitedThread


class Deadlines:
    """Of one handle."""

    def __init__(self, box: AnswerBox) -> None:
        self._box = box
        self._changed = Flag()
        self._has_begun = self._ended = False
        #: When the thread wakes up by itself. Infinite while it finds that out: then it is woken once too often.
        self._next = math.inf
        self._thread = UnawaitedThread(target=self._watch, name="ray-control-deadlines", daemon=True)

    def start(self) -> None:
        """Begin; once.

        Raises:
            RuntimeError: the system gives no thread.
        """
        self._thread.start()
        self._has_begun = True

    def add(self, end: float) -> None:
        """Somebody waits until ``end``. Any thread."""
        if end < self._next:
            self._changed.set()

    def close(self) -> None:
        """End. Idempotent."""
        self._ended = True
        self._changed.set()
        if self._has_begun:
            self._thread.join()

    def _watch(self) -> None:
        while not self._ended:
            self._next = math.inf
            self._changed.clear()
            left_s = self._box.expire()
            if left_s is not None:
                self._next = monotonic() + left_s
            if not self._ended:
                self._changed.wait(left_s)
