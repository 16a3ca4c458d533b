"""Imports in the middle of a program, where finalisers may come in between."""

from __future__ import annotations

import gc
from importlib import import_module

_whole: set[str] = set()


def import_whole(name: str) -> None:
    """Import a module, unless that was done, while the collector does not run: an import statement then only finds it.

    A finaliser that the collector runs in the middle of an import, and that needs the same module, finds half of it,
    and on Python 3.11 may have the outer import fail with a KeyError.
    """
    if name in _whole:
        return
    collects = gc.isenabled()
    gc.disable()
    try:
        import_module(name)
    finally:
        if collects:
            gc.enable()
    _whole.add(name)
