"""Sessions for tests of faults: each is checked for what it leaves running, held, stored or behind."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator

import pytest

import ray
from ray.runtime import interface
from ray.testing import leaks

SOAK = os.environ.get("RAY_TEST_SOAK") == "1"


@pytest.fixture
def rounds() -> Callable[[int, int], int]:
    """How often to do it: ``rounds(normally, in the soak session)``."""
    return lambda normally, in_soak: in_soak if SOAK else normally


@pytest.fixture
def start() -> Iterator[Callable[..., ray.RayContext]]:
    """Start the session of the test, with the keywords of ``ray.init``; at the end all must be free, and then gone."""
    before = leaks.snapshot()
    yield ray.init
    runtime = interface.current()
    if runtime is not None:
        gc.collect()
        leaks.assert_settled(runtime)
        end = time.monotonic() + leaks.PATIENCE_S
        while (runtime.table.entries or runtime.store.stats().used_bytes) and time.monotonic() < end:
            time.sleep(0.01)
            gc.collect()  # a thread may just have been holding what leads to a ref
        held = [(entry.id.hex(), entry.local, entry.pins, entry.credits) for entry in runtime.table.entries.values()]
        stored = runtime.store.stats().used_bytes
        ray.shutdown()
        assert not held, "objects that nobody should hold any more: (id, refs, pins, credits)"
        assert not stored
    leaks.assert_clean(before)
