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
