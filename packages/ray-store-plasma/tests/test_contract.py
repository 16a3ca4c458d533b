"""The plasma store keeps the contract of the store seam, spilling or not."""

from __future__ import annotations

import pytest

from ray.testing.contracts.store import StoreContract, StoreOpener
from ray.testing.faults import FaultyStore

from .conftest import StartNode


class TestPlasma(StoreContract):
    @pytest.fixture
    def open_store(self, start: StartNode) -> StoreOpener:
        return start(self.capacity_bytes, full_timeout_s=0.2).connect


@pytest.mark.slow
class TestPlasmaSlow(StoreContract):
    """Behind a wrapper that delays each call, which breaks no promise."""

    @pytest.fixture
    def open_store(self, start: StartNode) -> StoreOpener:
        connect = start(self.capacity_bytes, full_timeout_s=0.2).connect
        return lambda: FaultyStore(connect(), max_delay_s=0.0005)
