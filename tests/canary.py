"""A value by which a test sees that somebody unpickles what is to be left alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class Canary:
    """A process that unpickles it makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)
