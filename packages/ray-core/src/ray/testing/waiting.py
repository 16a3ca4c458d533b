"""Wait for what other threads and processes make true."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ray.clock import monotonic, sleep

T = TypeVar("T")

#: A pause is a tenth of the time waited so far, between these limits: what comes at once can be timed, and what takes
#: long is not asked often.
_PAUSES_S = 0.0002, 0.01
_SHOWN = 500


def eventually(
    condition: Callable[[], T], within_s: float = 10.0, why: str | Callable[[], str] = "it has not come true"
) -> T:
    """Wait for ``condition()`` to be true, asked again and again on this thread.

    Args:
        condition: what is waited for; what it raises ends the wait.
        within_s: when to give up. The condition is asked once more after that.
        why: what is wrong then, as the error says it: "the task has not begun"; or a function that says it then.

    Returns:
        The first true value.

    Raises:
        AssertionError: it was not true in time; the text is ``why``, the time and the last value.
    """
    __tracebackhide__ = True  # pytest shows the line that has waited
    began = now = monotonic()
    shortest, longest = _PAUSES_S
    while True:
        asked_late = now - began > within_s
        if value := condition():
            return value
        if asked_late:
            text = repr(value)
            text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
            wrong = why() if callable(why) else why
            raise AssertionError(f"{wrong} after {within_s:g} s; the last value was {text}")
        sleep(min(max((now - began) / 10, shortest), longest))
        now = monotonic()
