"""Telling the user what happens, where the runtime's lock is held."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable


def tell(call: Callable[..., object], *args: object) -> None:
    """Have ``call`` run on a thread of its own: it may run code of the user's, which may call ray, or wait for others.

    Handlers of ``logging`` are such code, and streams that the user has put in the place of ``sys.stderr``.
    """
    with contextlib.suppress(RuntimeError):  # the system gives no thread, or the interpreter ends
        threading.Thread(target=call, args=args, name="ray-teller", daemon=True).start()


def say(text: str) -> None:
    """Write a line to ``sys.stderr``, away from the lock."""
    tell(_write, text)


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # there may be no stderr to write to
        sys.stderr.write(f"[ray] {text}\n")
        sys.stderr.flush()
