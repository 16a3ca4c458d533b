"""Workers stopped for a moment, so that what they note in their slots stays true while something is decided by it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from typing import TypeAlias

from ray.runtime.process.timers import Timer, Timers

#: Called once, with whether the worker stands still.
Look: TypeAlias = Callable[[bool], None]

#: A worker that has not stopped after this time is let go on: a debugger may have it, or nothing tells of stops here.
GIVE_UP_S = 1.0


class Stops:
    """Runs on the node manager's one thread, and never waits: the system tells of a stop as it does of an end."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        #: {pid: what to do when it stands still, and when it never does}
        self._due: dict[int, tuple[list[Look], Timer]] = {}

    def stop(self, pid: int, look: Look) -> None:
        """Have ``look`` called while the process stands still; it goes on afterwards."""
        if pid in self._due:
            self._due[pid][0].append(look)
            return
        self._due[pid] = [look], self._timers.after(GIVE_UP_S, lambda: self._give_up(pid))
        _signal(pid, signal.SIGSTOP)

    def stopped(self, pid: int) -> bool:
        """A process has stopped; returns whether it was meant to, and goes on by now."""
        return self._look(pid, stands=True)

    def ended(self, pid: int) -> None:
        """The process is dead and reaped."""
        for look in self._taken(pid):
            look(False)

    def _give_up(self, pid: int) -> None:
        self._look(pid, stands=False)

    def _look(self, pid: int, *, stands: bool) -> bool:
        looks = self._taken(pid)
        for look in looks:
            look(stands)
        if looks:
            _signal(pid, signal.SIGCONT)
        return bool(looks)

    def _taken(self, pid: int) -> list[Look]:
        looks, timer = self._due.pop(pid, ([], None))
        if timer is not None:
            timer.cancel()
        return looks


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
