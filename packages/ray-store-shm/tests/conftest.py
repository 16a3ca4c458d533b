"""A broker and its clients, in each way that works here, and a check that nothing stays behind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ray.testing import leaks
from ray_store_shm.client import ShmStore
from ray_store_shm.process import ShmStoreServer
from ray_store_shm.systems import Linux, Posix, System

FOLDER = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What Linux does not use itself is tried in the slow run, and in that of the contracts."""
    if sys.platform == "linux":
        for item in items:
            if item.path.parent == FOLDER and "[Posix" in item.name:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = leaks.snapshot()
    yield
    leaks.assert_clean(before)


@pytest.fixture(params=[Linux, Posix] if sys.platform == "linux" else [Posix], ids=lambda system: system.__name__)
def system(request: pytest.FixtureRequest) -> System:
    return request.param()


@pytest.fixture
def start(tmp_path: Path, system: System) -> Iterator[Callable[[int, float], ShmStoreServer]]:
    """A function that starts a broker of a capacity and a timeout."""
    made: list[ShmStoreServer] = []

    def make(capacity_bytes: int, full_timeout_s: float = 0.2) -> ShmStoreServer:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(ShmStoreServer(str(folder), capacity_bytes, full_timeout_s, system=system))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def server(start: Callable[[int], ShmStoreServer]) -> ShmStoreServer:
    return start(64 << 20)


@pytest.fixture
def connect(server: ShmStoreServer) -> Iterator[Callable[[], ShmStore]]:
    """A function that makes a client; all are closed after the test."""
    made: list[ShmStore] = []

    def make() -> ShmStore:
        made.append(ShmStore(server.address))
        return made[-1]

    yield make
    for store in made:
        store.close()
