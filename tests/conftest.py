"""What every test of the whole system gets: a session in either mode, and a check that nothing stays behind."""

from __future__ import annotations

import contextlib
import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.commands import Machine
from tests.redis_servers import server_binary
from tests.sessions import MODES
from tests.soak import SOAK

import ray
from ray.testing import inside, leaks


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Where tasks run: in this process, or in processes of their own."""
    return str(request.param)


@pytest.fixture
def ray_session(mode: str) -> Iterator[ray.RayContext]:
    """A session of four processors that the test finds started."""
    with ray.init(local_mode=mode == "local_mode", num_cpus=4, resources={"disk": 2}) as context:
        yield context


@pytest.fixture
def start() -> Iterator[Callable[..., ray.RayContext]]:
    """Start the session of the test, with the keywords of ``ray.init``; at the end all must be free, and then gone."""
    before = leaks.snapshot()
    yield ray.init
    if ray.is_initialized():
        gc.collect()
        inside.settled()
        end = time.monotonic() + leaks.PATIENCE_S
        while (inside.entries() or inside.stored_bytes()) and time.monotonic() < end:
            time.sleep(0.01)
            gc.collect()  # a thread may just have been holding what leads to a ref
        held = [(entry.id.hex(), entry.local, entry.pins, entry.credits) for entry in inside.entries().values()]
        stored = inside.stored_bytes()
        ray.shutdown()
        assert not held, "objects that nobody should hold any more: (id, refs, pins, credits)"
        assert not stored
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
