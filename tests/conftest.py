"""What every test of the whole system gets: a session in either mode, and a check that nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import ray
from ray.testing import leaks

MODES = ["local_mode", "processes"]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Where tasks run: in this process, or in processes of their own."""
    return str(request.param)


@pytest.fixture
def ray_session(mode: str) -> Iterator[ray.RayContext]:
    """A session of four processors that the test finds started."""
    with ray.init(local_mode=mode == "local_mode", num_cpus=4, resources={"disk": 2}) as context:
        yield context


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts without a session, whatever the environment says, and leaves nothing behind."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert not ray.is_initialized()
    before = leaks.snapshot() if "mode" in request.fixturenames else None
    yield
    left = ray.is_initialized()
    ray.shutdown()
    assert not left, "the test left its session running"
    if before is not None:
        leaks.assert_clean(before)
