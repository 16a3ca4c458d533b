"""A broker and its clients, and a check that nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ray.testing import leaks
from ray_store_shm.client import ShmStore
from ray_store_shm.process import ShmStoreServer


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = leaks.snapshot()
    yield
    leaks.assert_clean(before)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ShmStoreServer]:
    started = ShmStoreServer(str(tmp_path), 64 << 20, 0.2)
    yield started
    started.close()


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
