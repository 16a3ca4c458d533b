"""Directories for sockets, and the check that a test leaves nothing behind."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ray.testing import leaks


@pytest.fixture
def folders() -> Iterator[Callable[[], str]]:
    """Makes directories that are short enough for a unix socket: two listeners of one name must not meet."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as path:
        numbers = itertools.count()

        def make() -> str:
            folder = Path(path) / str(next(numbers))
            folder.mkdir(mode=0o700)
            return str(folder)

        yield make


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Threads, descriptors and processes of a test end with it."""
    before = leaks.snapshot()
    yield
    leaks.assert_clean(before)
