"""Files as signs between a test and the calls that it has made."""

from __future__ import annotations

from pathlib import Path
from time import sleep


def touch(path: Path) -> None:
    """Give the sign."""
    path.touch()


def wait_for(path: Path) -> str:
    """Return the name of the sign once it is given."""
    while not path.exists():
        sleep(0.01)
    return path.name
