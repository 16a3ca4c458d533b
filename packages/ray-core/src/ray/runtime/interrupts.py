"""Ctrl-C without torn state.

A SIGINT that hits the main thread inside this package's own code would leave half-done bookkeeping behind. Such a
signal is delivered again a millisecond later, until the thread is in the user's code or in one of the blocking waits,
which can be left at any point.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from ray.runtime import completion
from ray.runtime.joins import main_thread_joins

_AGAIN_S = 0.001
#: A program that ends this soon after Ctrl-C ends because of it.
_ENDS_S = 10.0
#: Directories of code in which nothing may be torn: this package's, and the transport's.
_ours: tuple[str, ...] = (os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,)
#: Code that only waits.
_waits: set[CodeType] = {completion.Waiter.block.__code__}


def may_interrupt(code: CodeType | None) -> None:
    """Signals may raise inside ``code``, as it only waits, and nowhere else in the modules beside it."""
    global _ours
    if code is not None:
        _waits.add(code)
        _ours = tuple({*_ours, os.path.dirname(code.co_filename) + os.sep})


class InterruptGuard:
    """Stands before the SIGINT handler that the program had when the session began."""

    def __init__(self) -> None:
        self._previous: Any = None
        self._installed = False
        #: Monotonic time at which the program was last told of a SIGINT, or 0.
        self._told_at = 0.0

    def install(self) -> None:
        """Take the place of the current handler; no effect outside the main thread or if SIGINT is ignored."""
        if threading.current_thread() is not threading.main_thread():
            return
        previous = signal.getsignal(signal.SIGINT)
        if callable(previous):
            self._previous = previous
            signal.signal(signal.SIGINT, self._handle)
            self._installed = True

    def remove(self) -> None:
        """Put the previous handler back, unless the program has set another one since."""
        if self._installed and threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGINT) == self._handle:
                signal.signal(signal.SIGINT, self._previous)
            self._installed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if in_critical_code(frame):
            if deliver_later(lambda frame: self._handle(number, frame)):
                return
            timer = threading.Timer(_AGAIN_S, _raise_again, (number,))
            timer.daemon = True
            with contextlib.suppress(RuntimeError):  # no more threads: the user has to press the keys again
                timer.start()
            return
        stop_delivery()
        self._told_at = time.monotonic()
        self._previous(number, frame)

    def ends_program(self) -> bool:
        """Whether the main thread, on its way out after Ctrl-C, waits for other threads. Any thread."""
        return bool(self._told_at) and main_thread_joins(time.monotonic() - self._told_at < _ENDS_S)


def deliver_later(deliver: Callable[[FrameType], None], inside: CodeType | None = None) -> bool:
    """Call ``deliver`` in this thread as soon as its code is not critical any more.

    A loop of short calls of ours may not be in the user's code at any moment when signals are looked at. Returns False,
    and does nothing, if there is a profiler of the user's.
    """
    profile = sys.getprofile()
    if profile is None:
        sys.setprofile(functools.partial(_on_event, deliver, inside))
        return True
    return isinstance(profile, functools.partial) and profile.func is _on_event  # one is on its way: they become one


def stop_delivery() -> None:
    """Undo ``deliver_later``."""
    profile = sys.getprofile()
    if isinstance(profile, functools.partial) and profile.func is _on_event:
        sys.setprofile(None)


def _on_event(
    deliver: Callable[[FrameType], None], inside: CodeType | None, frame: FrameType, event: str, arg: object
) -> None:
    goes_on = frame if event == "call" else frame.f_back if event == "return" else None
    # What a destructor raises is lost.
    if goes_on is not None and frame.f_code.co_name != "__del__" and not in_critical_code(goes_on, inside):
        sys.setprofile(None)
        deliver(goes_on)


def _raise_again(number: int) -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def in_critical_code(frame: FrameType | None, inside: CodeType | None = None) -> bool:
    """Whether the innermost code of the program is ours and not waiting.

    ``inside`` is code of ours that calls the user's: reaching it means that the user's function is about to run or has
    just ended, which its caller guards.
    """
    while frame is not None:
        code = frame.f_code
        if code in _waits or code is inside:
            return False
        if code.co_filename.startswith(_ours):
            return True
        if _is_user_code(code.co_filename):
            return False
        frame = frame.f_back
    return False


def in_destructor(frame: FrameType | None) -> bool:
    """Whether what is raised here would be lost, as an object is being destroyed."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def interrupt_of(task_id: bytes) -> KeyboardInterrupt:
    """What to raise in the code of a task that is to end."""
    error = KeyboardInterrupt()
    error.__dict__[_TASK] = task_id
    return error


def handles_interrupt(task_id: bytes) -> bool:
    """Whether this thread is in an ``except`` or ``finally`` block, or ``__exit__``, for the interrupt of a task."""
    error = sys.exception()
    while error is not None and getattr(error, _TASK, None) != task_id:
        error = error.__context__
    return error is not None


_TASK = "_ray_task"


def _is_user_code(path: str) -> bool:
    """Neither the standard library nor an installed package: our own code calls into both."""
    return not path.startswith((_LIBRARY, "<frozen")) and "-packages" + os.sep not in path


_LIBRARY = os.path.dirname(os.__file__) + os.sep
