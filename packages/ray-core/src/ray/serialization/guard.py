"""Running a user's code that may never return, such as the ``__reduce__`` of an exception, with an end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from ray.clock import cpu_time_of, monotonic

T = TypeVar("T")

#: A step that has used this much CPU time is taken for an endless loop.
CPU_LIMIT_S = 0.04
#: A step that has not ended by then is given up, even if it sleeps or the machine is busy.
WALL_LIMIT_S = 0.5
_POLL_S = 0.02


class _Stop(BaseException):
    """Thrown into a thread that ran out of time."""


def run_guarded(step: Callable[[], T]) -> T | None:
    """``step()`` on a thread of its own; None if it raises anything at all or does not end in time.

    A loop in Python is broken. A call that blocks outside Python is left behind on its daemon thread.
    """
    outcome: list[T] = []

    def run() -> None:
        try:
            outcome.append(step())
        except BaseException:  # Also SystemExit: the user's code must not end this process's work.
            return

    thread = threading.Thread(target=run, name="ray-guarded", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        run()  # No more threads to be had: better without a guard than not at all.
        return outcome[0] if outcome else None
    deadline = monotonic() + WALL_LIMIT_S
    while thread.is_alive():
        thread.join(_POLL_S)
        if thread.is_alive() and (monotonic() > deadline or _cpu_time(thread) > CPU_LIMIT_S):
            _stop(thread)
            break
    return outcome[0] if outcome else None


def _cpu_time(thread: threading.Thread) -> float:
    try:
        assert thread.ident is not None
        return cpu_time_of(thread.ident)
    except (AttributeError, OSError):
        return 0.0  # Not on this platform, or just ended.


def _stop(thread: threading.Thread) -> None:
    import ctypes

    for _ in range(3):  # Once may be caught by the code that loops.
        if not thread.is_alive() or thread.ident is None:
            return
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_Stop))
        thread.join(_POLL_S)
