"""Sessions for the tests of this package, and a check that nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import ray
from ray.experimental import async_api
from ray.testing import leaks
from ray_async.plasma_eventloop import PlasmaSelectorEventLoop


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[ray.RayContext]:
    """A session with processes; after the test the async API is cleaned up, and nothing may be left."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = leaks.snapshot()
    try:
        with ray.init(num_cpus=4, log_to_driver=False) as context:
            yield context
            async_api.shutdown()
            async_api.cleanup()
    finally:
        async_api.cleanup()
        asyncio.set_event_loop(None)
    leaks.assert_clean(before)


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
    assert [text for text in logged if not text.startswith("Using selector")] == []
    # A failure of a task that nobody has asked for in time is shown by the session, and rightly so.
    printed = capfd.readouterr().err
    noise = ["Exception ignored", "Exception in callback", "never retrieved", "never awaited", "was destroyed"]
    assert [mark for mark in noise if mark in printed] == []
