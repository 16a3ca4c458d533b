"""Fixtures for files whose tests share one session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ray
from ray.testing import leaks

#: Where tasks run: in this process, or in processes of their own.
MODES = ["local_mode", "processes"]


def shared(**options: Any) -> Callable[..., Any]:
    """One session for all tests of the file, with the keywords of ``ray.init``; afterwards nothing may be left."""

    @pytest.fixture(scope="module", autouse=True)
    def session() -> Iterator[Any]:
        before = leaks.snapshot()
        with ray.init(**options) as context:
            yield context
        leaks.assert_clean(before)

    return session


def unchecked() -> Callable[..., Any]:
    """Takes the place of the check around each test, which wants no session."""

    @pytest.fixture(autouse=True)
    def nothing_left() -> None:
        pass

    return nothing_left
