"""The shm store keeps the contract of the store seam, however its memory is made and its processes talk."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ray.testing.contracts.store import StoreContract, StoreOpener
from ray.testing.faults import FaultyStore
from ray_store_shm.client import ShmStore
from ray_store_shm.process import ShmStoreServer
from ray_store_shm.segments import MemoryFiles, NamedSegments, Segments
from ray_store_shm.systems import Posix, System


def mapped_segments() -> Segments:
    """As on systems on which segments can only be mapped."""
    return NamedSegments(takes_writes=False)


MAPPED = pytest.param(mapped_segments, marks=pytest.mark.slow)
KINDS = [NamedSegments, MAPPED, MemoryFiles] if sys.platform == "linux" else [NamedSegments]


@pytest.fixture(autouse=True)
def one_at_a_time(request: pytest.FixtureRequest, system: System) -> None:
    if isinstance(system, Posix) and "others_go_on_while_a_call_is_interrupted" in request.node.name:
        pytest.skip("a stream takes one packet at a time, also while a call that has begun one is interrupted")


class TestShm(StoreContract):
    @pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
    def kind(self, request: pytest.FixtureRequest) -> Callable[[], Segments]:
        return request.param

    @pytest.fixture
    def open_store(self, tmp_path: Path, kind: Callable[[], Segments], system: System) -> Iterator[StoreOpener]:
        server = ShmStoreServer(str(tmp_path), self.capacity_bytes, 0.2, kind(), system)
        yield lambda: ShmStore(server.address, kind())
        server.close()


@pytest.mark.slow
class TestShmSlow(StoreContract):
    """Behind a wrapper that delays each call, which breaks no promise."""

    @pytest.fixture
    def open_store(self, tmp_path: Path, system: System) -> Iterator[StoreOpener]:
        server = ShmStoreServer(str(tmp_path), self.capacity_bytes, 0.2, system=system)
        yield lambda: FaultyStore(ShmStore(server.address), max_delay_s=0.0005)
        server.close()
