"""A stopwatch for tests: a busy machine makes them slow, and breaks none of them."""

from __future__ import annotations

import os
import time


class Stopwatch:
    """Runs from the moment that it is made.

    A lower limit is for ``elapsed_s``; time never passes too quickly. An upper limit is for ``undisturbed_s``.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._waited_s = waited_s()

    def elapsed_s(self) -> float:
        """Seconds on the clock."""
        return time.monotonic() - self._began

    def undisturbed_s(self) -> float:
        """Seconds on the clock, less those in which this machine had more to run than it has processors.

        Where the system does not tell how many those were, it is 0: nothing is known of any delay.
        """
        waited = waited_s()
        if waited is None or self._waited_s is None:
            return 0.0
        return max(0.0, self.elapsed_s() - (waited - self._waited_s))


def waited_s() -> float | None:
    """For how long work has waited for a processor since this machine started; None where nobody knows."""
    try:
        with open("/proc/pressure/cpu") as pressure, open("/proc/stat") as stat:
            some = next(line for line in pressure if line.startswith("some"))
            stolen = int(stat.readline().split()[8])
    except (OSError, StopIteration, IndexError, ValueError):
        return None
    # The pressure is a mean over the processors: what waits behind one of two counts by half.
    pressed = int(some.rpartition("total=")[2]) / 1e6 * (os.cpu_count() or 1)
    return pressed + stolen / os.sysconf("SC_CLK_TCK")
