"""Libraries that the program has imported."""

from __future__ import annotations

import sys
from typing import Any


def imported(name: str) -> Any:
    """The module, or None if it was not imported, or is being imported right now: by another thread, or further up.

    ``sys.modules`` has a module from the beginning of its import on, when most of its names are not there yet.
    """
    module = sys.modules.get(name)
    if module is not None and getattr(getattr(module, "__spec__", None), "_initializing", False):
        return None
    return module
