"""What a program has started ends with it, also where the program ends with an error."""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Callable


def close_with_program(close: Callable[[], None]) -> Callable[[], None]:
    """Have ``close`` called when this program ends, but not in its forks; returns what takes that back."""
    pid = os.getpid()

    def end() -> None:
        if os.getpid() == pid:
            close()

    atexit.register(end)
    return functools.partial(atexit.unregister, end)
