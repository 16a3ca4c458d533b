"""What every test of the whole system gets: a session in either mode, and a check that nothing stays behind."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import sessions
from tests.commands import Machine
from tests.redis_servers import server_binary
from tests.sessions import MODES, KeptSession
from tests.soak import SOAK

import ray
from ray.testing import leaks


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Where tasks run: in this process, or in processes of their own."""
    return str(request.param)


@pytest.fixture(scope="module")
def kept_session() -> KeptSession | None:
    """The session that tests of a file share, if the file says so: see ``sessions.kept``."""
    return None


@pytest.fixture
def ray_session(mode: str, kept_session: KeptSession | None) -> Iterator[ray.RayContext]:
    """A session of four processors that the test finds started."""
    options = {"local_mode": mode == "local_mode", "num_cpus": 4, "resources": {"disk": 2}}
    if kept_session is not None:
        yield kept_session.begin(**options)
        kept_session.give_back()
        return
    with ray.init(**options) as context:
        yield context


@pytest.fixture
def start(kept_session: KeptSession | None) -> Iterator[Callable[..., ray.RayContext]]:
    """Start the session of the test, with the keywords of ``ray.init``; at the end all must be free, and then gone."""
    if kept_session is not None:
        yield kept_session.begin
        kept_session.give_back()
        return
    before = leaks.snapshot()
    yield ray.init
    try:
        if ray.is_initialized():
            sessions.assert_let_go()
    finally:
        ray.shutdown()
    leaks.assert_clean(before)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Callable[[], Machine]]:
    """Places where ``ray`` runs, each with key files and sessions of its own; nothing is left in any of them."""
    server_binary()
    before = leaks.snapshot()
    made: list[Machine] = []
    with contextlib.ExitStack() as stack:

        def make() -> Machine:
            runtime = stack.enter_context(tempfile.TemporaryDirectory(prefix="r", dir="/tmp"))
            made.append(Machine(tmp_path / str(len(made)), Path(runtime)))
            return made[-1]

        yield make
        left = []
        for machine in made:
            while machine.ray("stop").returncode == 2:  # several clusters
                for name in machine.names():
                    machine.ray("stop", "--name", name.removesuffix(".json"))
            left += machine.names()
            left += [str(path) for path in machine.runtime.glob("ray-*/*")]
        leaks.assert_clean(before)
        assert left == []


@pytest.fixture
def machine(machines: Callable[[], Machine]) -> Machine:
    return machines()


@pytest.fixture
def rounds() -> Callable[[int, int], int]:
    """How often to do it: ``rounds(normally, in the soak session)``."""
    return lambda normally, in_soak: in_soak if SOAK else normally


@pytest.fixture(autouse=True)
def nothing_left(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kept_session: KeptSession | None
) -> Iterator[None]:
    """Each test starts without a session, whatever the environment says, and leaves nothing behind."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if kept_session is not None:
        if {"start", "ray_session"}.isdisjoint(request.fixturenames):
            kept_session.end()
        yield
        assert kept_session.is_there() or not ray.is_initialized(), "the test left its session running"
        return
    assert not ray.is_initialized()
    before = leaks.snapshot() if "mode" in request.fixturenames else None
    yield
    left = ray.is_initialized()
    ray.shutdown()
    assert not left, "the test left its session running"
    if before is not None:
        leaks.assert_clean(before)
