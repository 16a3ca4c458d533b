"""Telling the user what happens, also where the runtime's lock is held."""

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
    tell(write, f"[ray] {text}\n")


def write(text: str) -> None:
    """Write to ``sys.stderr``. What it does not take is lost: no call and no thread fails as nobody can be told."""
    with contextlib.suppress(Exception):  # there is none, it is closed, or it is the program's own
        sys.stderr.write(text)
        sys.stderr.flush()
