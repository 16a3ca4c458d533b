"""What signals are to a process of the session, whatever the program that starts it makes of its own."""

from __future__ import annotations

import signal
from _signal import SIG_SETMASK, pthread_sigmask  # type: ignore[import-not-found]  # that of ``signal`` takes longer

#: Python itself ignores these, and gives them back to the programs that it starts.
_OF_PYTHON = tuple(getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signal, name))


def clean_signals() -> None:
    """Block no signal, and ignore none; a process inherits both from the thread that starts it.

    Called by the first process of a session, from which all others are forked, before it relies on any.
    """
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in _OF_PYTHON:
            signal.signal(number, signal.SIG_DFL)
    unblock_signals()


def unblock_signals() -> None:
    """Have this thread block no signal."""
    pthread_sigmask(SIG_SETMASK, ())
