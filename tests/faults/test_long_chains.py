"""Chains of tasks that wait for each other, longer than the stack is deep."""

from __future__ import annotations

import time

import pytest

import ray
from ray.exceptions import TaskCancelledError


@ray.remote
def same(value):
    return value


@ray.remote
class Counter:
    def same(self, value):
        return value


@ray.remote
def fail_after(path):
    while not path.exists():
        time.sleep(0.001)
    raise ValueError("at the end")


@pytest.mark.parametrize("ends", ["fails", "is cancelled", "is left"])
def test_what_waits_for_a_failure(start, tmp_path, ends):
    """It fails with its argument, however many wait for each other."""
    start(num_cpus=2)
    counter = Counter.remote()
    go = tmp_path / "go"
    first = ref = fail_after.remote(go)
    refs = [ref := same.remote(ref) for _ in range(1500)]
    last = counter.same.remote(ref)
    if ends == "is left":
        ray.shutdown()
        assert not ray.is_initialized()
        return
    if ends == "fails":
        go.touch()
    else:
        ray.cancel(first)
    with pytest.raises(ValueError if ends == "fails" else TaskCancelledError):
        ray.get(last, timeout=30)
    assert not ray.wait(refs, num_returns=len(refs), timeout=30)[1]
    assert ray.get([same.remote(1), counter.same.remote(2)], timeout=30) == [1, 2]
