"""The program's signal handlers wait until no call of this package is half done.

Python runs a handler between any two steps of the main thread. One that raises, as those of Ctrl-C and of time limits
do, would end a call of ours at a point where no ``finally`` stands. CPython has no place to say so but the handler
itself, so each that the program sets is called through one of ours for as long as there is a session.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import functools
import signal
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from ray.runtime.interrupts import deliver_later, in_critical_code, stop_delivery
from ray.runtime.joins import main_thread_joins
from ray.runtime.telling import write

_AGAIN_S = 0.001
#: A program that ends this soon after Ctrl-C ends because of it.
_ENDS_S = 10.0
_Handler = Callable[[int, FrameType | None], object]


class GuardedHandler:
    """Stands before a handler of the program."""

    def __init__(self, handler: _Handler, guard: SignalGuard) -> None:
        self.handler = handler
        self._guard = guard

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if in_critical_code(frame):
            if not deliver_later(number, lambda frame: self(number, frame)):
                _send_again(number)
            return
        stop_delivery(number)
        self._guard.call(self.handler, number, frame)


class SignalGuard:
    """Stands before the handlers that the program has when a session begins, and sets until it ends."""

    def __init__(self, has_user_code: Callable[[], bool] | None = None) -> None:
        """A guard that is not installed yet.

        Args:
            has_user_code: whether the main thread runs code of the user's, which gets what a handler raises. None: it
                always does. Where it does not, what is raised is printed.
        """
        self._has_user_code = has_user_code
        self._restore: Callable[[], None] | None = None
        #: Monotonic time at which the program was last told of a SIGINT, or 0.
        self._told_at = 0.0

    def install(self, own: _Handler | None = None) -> None:
        """Stand before the program's handlers; no effect outside the main thread.

        Args:
            own: a handler that needs no guard.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        set_handler, get_handler = signal.signal, signal.getsignal

        @functools.wraps(set_handler)
        def guarded_signal(signalnum: Any, handler: Any) -> Any:
            if self._restore is not None and callable(handler) and handler is not own:
                handler = GuardedHandler(handler, self)
            return _unguarded(set_handler(signalnum, handler))

        @functools.wraps(get_handler)
        def guarded_getsignal(signalnum: Any) -> Any:
            return _unguarded(get_handler(signalnum))

        def restore() -> None:
            if signal.signal is guarded_signal:  # else another one has taken its place, and calls it
                signal.signal = set_handler
            if signal.getsignal is guarded_getsignal:
                signal.getsignal = get_handler

        self._restore = restore
        signal.signal, signal.getsignal = guarded_signal, guarded_getsignal
        for number in signal.valid_signals():
            handler = _signal.getsignal(number)
            if callable(handler) and handler is not own:
                _signal.signal(number, GuardedHandler(handler, self))

    def remove(self) -> None:
        """Put the program's handlers back."""
        restore = self._restore
        if restore is None or threading.current_thread() is not threading.main_thread():
            return
        self._restore = None
        restore()
        for number in signal.valid_signals():
            handler = _signal.getsignal(number)
            if isinstance(handler, GuardedHandler):
                _signal.signal(number, handler.handler)

    def call(self, handler: _Handler, number: int, frame: FrameType | None) -> None:
        """Call a handler of the program, whose main thread is at ``frame``."""
        if number == signal.SIGINT:
            self._told_at = time.monotonic()
        if self._has_user_code is None or self._has_user_code():
            handler(number, frame)
            return
        try:
            handler(number, frame)
        except Exception:
            write(f"[ray] a signal handler failed while no task ran:\n{traceback.format_exc()}")

    def ends_program(self) -> bool:
        """Whether the main thread, on its way out after Ctrl-C, waits for other threads. Any thread."""
        return bool(self._told_at) and main_thread_joins(time.monotonic() - self._told_at < _ENDS_S)


def _unguarded(handler: Any) -> Any:
    return handler.handler if isinstance(handler, GuardedHandler) else handler


def _send_again(number: int) -> None:
    main = threading.main_thread().ident or 0
    timer = threading.Timer(_AGAIN_S, lambda: signal.pthread_kill(main, number))
    timer.daemon = True
    with contextlib.suppress(RuntimeError):  # no more threads: it has to be sent once more
        timer.start()
