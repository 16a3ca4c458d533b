"""Pauses between attempts: each longer than the last one, up to a limit, and never quite the same for two clients."""

from __future__ import annotations

import random

FIRST_S = 0.02
LONGEST_S = 1.0


class Pauses:
    """Of one series of attempts."""

    def __init__(self, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._failed = 0
        self._chance = random.Random()

    def failed(self) -> float:
        """An attempt has failed; returns the pause before the next one."""
        pause_s: float = min(self._longest_s, self._first_s * 2 ** min(self._failed, 30))
        self._failed += 1
        return pause_s * self._chance.uniform(0.5, 1.0)

    def worked(self) -> None:
        """Begin with short pauses again."""
        self._failed = 0
