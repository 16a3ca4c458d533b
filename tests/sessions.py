"""Fixtures for files whose tests share one session."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ray
from ray.testing import inside, leaks

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


class KeptSession:
    """The session of a file's tests that start theirs alike, as long as each leaves it as it was. Not thread-safe."""

    def __init__(self) -> None:
        self._before = leaks.snapshot()
        self._context: ray.RayContext | None = None
        self._options: dict[str, Any] = {}
        self._name: str | None = None

    def is_there(self) -> bool:
        """Whether it has begun, and no test has ended it."""
        return self._name is not None and ray.is_initialized() and inside.session_dir() == self._name

    def begin(self, **options: Any) -> ray.RayContext:
        """The session that there is, if it was started with these keywords of ``ray.init``, or a new one."""
        if self.is_there() and options != self._options:
            self.end()
        if not self.is_there():
            self._context, self._options = ray.init(**options), options
            self._name = inside.session_dir()
        assert self._context is not None
        return self._context

    def give_back(self) -> None:
        """A test has ended: nothing of it may be left. After one with recorded failures there is another session."""
        if not self.is_there():
            ray.shutdown()  # in local mode, which costs nothing to start
            return
        try:
            assert_let_go()
        except BaseException:
            ray.shutdown()
            raise
        if ray.error_info():
            self.end()

    def end(self) -> None:
        """Nothing is left of it. Idempotent."""
        self._name = None
        ray.shutdown()
        leaks.assert_clean(self._before)


def kept() -> Callable[..., Any]:
    """As ``kept_session`` of a file: its tests that use ``start`` or ``ray_session`` have one session for several."""

    @pytest.fixture(scope="module")
    def kept_session() -> Iterator[KeptSession]:
        session = KeptSession()
        yield session
        session.end()

    return kept_session


def one_after_the_other() -> Callable[..., Any]:
    """As ``mode`` of a file: all its tests in one mode, then all in the other."""

    @pytest.fixture(scope="module", params=MODES)
    def mode(request: pytest.FixtureRequest) -> str:
        return str(request.param)

    return mode


def assert_let_go() -> None:
    """All is free again, and nobody holds an object any more."""
    gc.collect()
    inside.settled()
    end = time.monotonic() + leaks.PATIENCE_S
    while (inside.entries() or inside.stored_bytes()) and time.monotonic() < end:
        time.sleep(0.01)
        gc.collect()  # a thread may just have been holding what leads to a ref
    held = [(entry.id.hex(), entry.local, entry.pins, entry.credits) for entry in inside.entries().values()]
    assert not held, "objects that nobody should hold any more: (id, refs, pins, credits)"
    assert not inside.stored_bytes()
