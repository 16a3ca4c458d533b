"""Descriptors 0 to 2, which may be closed when a session starts."""

from __future__ import annotations

import contextlib
import os
import sys

_LAST = 2


def fill_standard_descriptors() -> None:
    """Open ``/dev/null`` for those that are closed.

    Else what is opened next has their numbers: a child's standard streams would be put over it, and what is printed
    there would go into it.
    """
    with contextlib.suppress(OSError):
        while True:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor > _LAST:
                os.close(descriptor)
                break
            os.set_inheritable(descriptor, True)
    if sys.stderr is None:  # ``print`` would take the other stream instead
        sys.stderr = open(_LAST, "w", errors="replace", closefd=False)  # noqa: SIM115 - for the rest of the program


def print_to(path: str) -> None:
    """Print into this file from here on: no process reads what this one prints."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
