"""Sessions for the tests of this package, and a check that nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import ray
from ray.experimental import async_api
from ray.testing import eventually, inside, leaks
from ray_async.plasma_eventloop import PlasmaSelectorEventLoop


class Shared:
    """The session that the tests of a module use one after the other, for as long as each leaves it as it was."""

    def __init__(self) -> None:
        self._context: ray.RayContext | None = None
        self._session_dir: str | None = None

    def start(self) -> ray.RayContext:
        """The session, made anew if there is none or a test has ended it."""
        if self._context is not None and inside.session_dir() != self._session_dir:
            self.end()
        if self._context is None:
            self._before = leaks.snapshot()
            self._context = ray.init(num_cpus=4, log_to_driver=False)
            self._session_dir = inside.session_dir()
        self._threads, self._descriptors = set(threading.enumerate()), _descriptors()
        return self._context

    def end(self) -> None:
        """End it, if it has not ended; nothing may be left."""
        if self._context is not None:
            before = self._before
            if inside.session_dir() == self._session_dir:  # what others on this machine have made meanwhile is not ours
                others = leaks.snapshot().session_dirs - {self._session_dir}
                before = dataclasses.replace(before, session_dirs=others)
            self._context = self._session_dir = None
            ray.shutdown()
            leaks.assert_clean(before)

    def look(self) -> None:
        """Nothing may be held by a session in which nothing runs; one in which something does ends here."""
        if self._session_dir is None or inside.session_dir() != self._session_dir:
            self.end()
            return
        gc.collect()
        try:
            inside.settled(0.2)
        except leaks.LeakError:  # tasks that the test has left to the end of the session
            self.end()
            return
        eventually(lambda: not self._held(), 2, lambda: f"the test has left {self._held()}")

    def _held(self) -> dict[str, object]:
        held: dict[str, Any] = {
            "threads": {
                thread for thread in set(threading.enumerate()) - self._threads if thread.name != "ray-printer"
            },
            "descriptors": _descriptors() - self._descriptors,
            "listeners": inside.listeners(),
            "watchers": inside.watchers(),
            "objects": list(inside.entries()),
        }
        return {name: value for name, value in held.items() if value}


def _descriptors() -> set[tuple[str, str]]:
    """Those that selectors and loops open; the session opens sockets when it needs them."""
    found = set()
    for fd in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the one for listing
            target = os.readlink(f"/dev/fd/{fd}")
            if target.startswith(("anon_inode:", "pipe:")):
                found.add((fd, target))
    return found


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    shared = Shared()
    yield shared
    shared.end()


@pytest.fixture(autouse=True)
def no_session(request: pytest.FixtureRequest, shared: Shared) -> None:
    """A test that does not ask for the session finds none."""
    if "session" not in request.fixturenames:
        shared.end()


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, shared: Shared) -> Iterator[ray.RayContext]:
    """A session with processes; after the test the async API is cleaned up, and nothing may be left."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    try:
        yield shared.start()
        async_api.shutdown()
        async_api.cleanup()
    finally:
        async_api.cleanup()
        asyncio.set_event_loop(None)
        shared.look()


@pytest.fixture(params=["epoll", "poll"])
def loop(request: pytest.FixtureRequest, session: ray.RayContext) -> PlasmaSelectorEventLoop:
    """The event loop of the async API, over either selector, in debug mode."""
    loop: PlasmaSelectorEventLoop = async_api._init_eventloop(request.param)
    loop.set_debug(True)
    return loop


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing may be logged by asyncio, nor printed by the interpreter, while the test runs."""
    import gc

    yield
    gc.collect()
    logged = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    # "Executing … took 0.2 seconds" tells how busy the machine is.
    assert [text for text in logged if not text.startswith(("Using selector", "Executing <"))] == []
    # A failure of a task that nobody has asked for in time is shown by the session, and rightly so.
    printed = capfd.readouterr().err
    noise = ["Exception ignored", "Exception in callback", "never retrieved", "never awaited", "was destroyed"]
    assert [mark for mark in noise if mark in printed] == []
