"""What a worker gives back, as it does not get on, goes to another worker."""

from __future__ import annotations

import time

import pytest

import ray

LIMIT_S = 20


@pytest.mark.parametrize("idle", [True, False])
def test_a_short_task_behind_a_long_one(start, idle):
    """Of a function that was short so far; other workers are idle, or have to be asked for."""
    start(num_cpus=3)

    @ray.remote
    def nap(seconds):
        time.sleep(seconds)
        return seconds

    for _ in range(5):
        ray.get([nap.remote(0.001) for _ in range(20 if idle else 1)], timeout=LIMIT_S)
        slow = nap.remote(60)
        assert ray.get(nap.remote(0), timeout=LIMIT_S) == 0
        assert not ray.wait([slow], timeout=0)[0]
        ray.cancel(slow)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(slow, timeout=LIMIT_S)
