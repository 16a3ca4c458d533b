"""The program's signal handlers wait until no call of this package is half done.

Python runs a handler between any two steps of the main thread. One that raises, as those of Ctrl-C and of time limits
do, would end a call of ours at a point where no ``finally`` stands. CPython has no place to say so but the handler
itself, so each that the program sets is called through one of ours for as long as there is a session.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import ctypes
import functools
import signal
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar, Self, cast

from ray.clock import monotonic
from ray.exceptions.base import note_handler
from ray.runtime.process.interrupts import deliver_later, in_critical_code, stop_delivery
from ray.runtime.process.joins import main_thread_joins
from ray.runtime.process.telling import write

_AGAIN_S = 0.001
#: A program that ends this soon after Ctrl-C ends because of it.
_ENDS_S = 10.0
_Handler = Callable[[int, FrameType | None], object]


class GuardedHandler:
    """Stands before a handler of the program; calls it at once where there is no session any more."""

    def __init__(self, handler: _Handler) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        guard = SignalGuard.active
        if not _comes_now(self, number, frame):
            return
        is_heard = guard is None or guard.is_heard(number)
        try:
            self.handler(number, frame)
        except BaseException as error:
            if is_heard or number == signal.SIGTERM:
                note_handler(error)
                raise
            write(f"[ray] a signal handler failed while no task ran:\n{traceback.format_exc()}")


class GuardedInterrupt:
    """Stands before Python's own handler of Ctrl-C; called like it.

    Each call makes an instance, whose ``__init__``, which raises, is not written in Python: no frame but those of the
    program is in the traceback.
    """

    def __new__(cls, number: int, frame: FrameType | None) -> Self | None:  # type: ignore[misc]
        if not _comes_now(cls, number, frame):
            return None
        if SignalGuard.active is not None:
            SignalGuard.active.is_heard(number)
        return super().__new__(cls)

    __init__ = signal.default_int_handler


def _comes_now(handler: Callable[[int, FrameType | None], Any], number: int, frame: FrameType | None) -> bool:
    """Whether to call the program's handler; else ``handler``, which stands before it, is called again soon."""
    if SignalGuard.active is None:
        return True
    if not in_critical_code(frame):
        stop_delivery(number)
        return True
    if not deliver_later(number, lambda frame: handler(number, frame)):
        _send_again(number)
    return False


class SignalGuard:
    """Stands before the handlers that the program has when a session begins, and sets until it ends."""

    #: That of this process's session.
    active: ClassVar[SignalGuard | None] = None

    def __init__(self, own: _Handler | None = None, has_user_code: Callable[[], bool] | None = None) -> None:
        """A guard that is not installed yet.

        Args:
            own: a handler that needs no guard.
            has_user_code: whether the main thread runs code of the user's, which gets what a handler raises. None: it
                always does. Where it does not, what is raised is printed.
        """
        self.own = own
        self._has_user_code = has_user_code
        #: Monotonic time at which the program was last told of a SIGINT, or 0.
        self._told_at = 0.0

    def install(self) -> None:
        """Stand before the program's handlers; where another thread calls this, as soon as the main thread goes on."""
        SignalGuard.active = self
        if signal.getsignal is not _getsignal:
            signal.signal, signal.getsignal = _signal_guarded, _getsignal
        if threading.current_thread() is threading.main_thread():
            self._stand_before()
        else:
            ctypes.pythonapi.Py_AddPendingCall(_stand_before_in_main, None)

    def _stand_before(self) -> None:
        for number in signal.valid_signals():
            handler = _signal.getsignal(number)
            if callable(handler) and handler is not self.own and _unguarded(handler) is handler:
                _signal.signal(number, self.guarded(handler))

    def guarded(self, handler: Any) -> _Handler:
        """What stands before a handler of the program."""
        if handler is signal.default_int_handler and self._has_user_code is None:
            return cast("_Handler", GuardedInterrupt)
        return GuardedHandler(handler)

    def remove(self) -> None:
        """Put the program's handlers back; outside the main thread they are called at once from now on."""
        if SignalGuard.active is not self:
            return
        SignalGuard.active = None
        if threading.current_thread() is not threading.main_thread():
            return  # nobody else may set handlers; ``signal.getsignal`` still tells them
        if signal.signal is _signal_guarded and signal.getsignal is _getsignal:  # else others rely on ours
            signal.signal, signal.getsignal = _set_handler, _get_handler
        for number in signal.valid_signals():
            handler = _signal.getsignal(number)
            if _unguarded(handler) is not handler:
                _signal.signal(number, _unguarded(handler))

    def is_heard(self, number: int) -> bool:
        """A handler is called next: whether what it raises comes to code of the user's."""
        if number == signal.SIGINT:
            self._told_at = monotonic()
        return self._has_user_code is None or self._has_user_code()

    def ends_program(self) -> bool:
        """Whether the main thread, on its way out after Ctrl-C, waits for other threads. Any thread."""
        return bool(self._told_at) and main_thread_joins(monotonic() - self._told_at < _ENDS_S)


_set_handler, _get_handler = signal.signal, signal.getsignal


@functools.wraps(_set_handler)
def _signal_guarded(signalnum: Any, handler: Any) -> Any:
    guard = SignalGuard.active
    if guard is not None and callable(handler) and handler is not guard.own:
        handler = guard.guarded(handler)
    return _unguarded(_set_handler(signalnum, handler))


@functools.wraps(_get_handler)
def _getsignal(signalnum: Any) -> Any:
    return _unguarded(_get_handler(signalnum))


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)  # type: ignore[untyped-decorator]
def _stand_before_in_main(argument: object) -> int:
    guard = SignalGuard.active
    if guard is not None:
        guard._stand_before()
    return 0


def _unguarded(handler: Any) -> Any:
    if handler is GuardedInterrupt:
        return signal.default_int_handler
    return handler.handler if isinstance(handler, GuardedHandler) else handler


#: Signals that a thread is about to send again: the next ones of the kind become one with these.
_sent_again: set[int] = set()


def _send_again(number: int) -> None:
    if number in _sent_again:
        return
    _sent_again.add(number)
    timer = threading.Timer(_AGAIN_S, _send, (number,))
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:  # no more threads: it has to be sent once more
        _sent_again.discard(number)


def _send(number: int) -> None:
    _sent_again.discard(number)
    main = threading.main_thread().ident or 0
    if callable(_signal.getsignal(number)):  # else the program has turned it off meanwhile, and it might be the end
        signal.pthread_kill(main, number)
