"""A call that is cancelled while it submits tasks leaves none of them behind."""

from __future__ import annotations

import random
import time

import pytest

import ray
from ray.exceptions import TaskCancelledError
from ray.testing import eventually


@ray.remote(max_retries=0)
def sleep(seconds):
    time.sleep(seconds)


@ray.remote
def one():
    return 1


@ray.remote
class Submitter:
    async def submit(self, path, count):
        path.touch()
        return [await ref for ref in [sleep.remote(60) for _ in range(count)]]


@ray.remote(max_retries=0)
def submit(path, count):
    path.touch()
    return ray.get([sleep.remote(60) for _ in range(count)])


@ray.remote(max_retries=0)
def submit_and_forget(path):
    for _ in range(20):
        sleep.remote(60)
    path.touch()
    time.sleep(60)


def test_nothing_that_it_has_forgotten_either(start, tmp_path):
    start(num_cpus=3)
    path = tmp_path / "submitted"
    ref = submit_and_forget.remote(path)
    eventually(path.exists)
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=30)
    eventually(lambda: ray.available_resources()["CPU"] == 3)


@pytest.mark.parametrize("kind", ["task", "coroutine"])
def test_nothing_is_left_behind(start, tmp_path, kind):
    """Neither what it had submitted by then, nor what it has before it hears of that."""
    start(num_cpus=3)
    chance = random.Random(1)
    call = submit if kind == "task" else Submitter.remote().submit
    for x in range(4):
        path = tmp_path / str(x)
        ref = call.remote(path, 1500)
        while not path.exists():
            time.sleep(0.0005)
        time.sleep(chance.random() * 0.02)
        ray.cancel(ref)
        with pytest.raises(TaskCancelledError):
            ray.get(ref, timeout=30)
        assert ray.get(one.remote(), timeout=20) == 1
    eventually(lambda: ray.available_resources()["CPU"] == 3)
