"""Tasks that wait for others when they are interrupted: the wait ends, and not with what it waits for."""

from __future__ import annotations

import time

import pytest
from tests import sessions
from tests.quick import crossed

import ray
from ray.exceptions import TaskCancelledError, TaskTimeoutError

#: Much longer than anything here should take.
LONG_S = 8
LIMIT_S = 30

session = sessions.shared(num_cpus=4)
nothing_left = sessions.unchecked()


@ray.remote(num_cpus=0.1, max_retries=0)
def leaf(seconds):
    time.sleep(seconds)


@ray.remote(num_cpus=0.1, num_returns="streaming", max_retries=0)
def stream(seconds):
    time.sleep(seconds)
    yield 1


WAITS = {
    "get": lambda: ray.get(leaf.remote(LONG_S)),
    "get of many": lambda: ray.get([leaf.remote(LONG_S) for _ in range(3)]),
    "get with timeout": lambda: ray.get(leaf.remote(LONG_S), timeout=LIMIT_S),
    "wait": lambda: ray.wait([leaf.remote(LONG_S)]),
    "next": lambda: next(stream.remote(LONG_S)),
    "future": lambda: leaf.remote(LONG_S).future().result(),
}


def waits(how, path):
    path.touch()
    WAITS[how]()


@ray.remote(max_retries=0)
def waits_in_a_task(how, path):
    waits(how, path)


@ray.remote
class Waits:
    def waits(self, how, path):
        waits(how, path)


def made(kind):
    return waits_in_a_task if kind == "task" else Waits.remote().waits


@pytest.mark.parametrize(("how", "kind"), crossed(list(WAITS), ["task", "actor"]))
def test_a_time_limit(tmp_path, how, kind):
    call = made(kind).options(timeout_s=0.3)
    for number in range(2):
        started = time.monotonic()
        with pytest.raises(TaskTimeoutError):
            ray.get(call.remote(how, tmp_path / str(number)), timeout=LIMIT_S)
        assert time.monotonic() - started < LONG_S / 2


@pytest.mark.parametrize(("how", "kind"), crossed(list(WAITS), ["task", "actor"]))
def test_a_cancellation_that_leaves_what_it_waits_for_alone(tmp_path, how, kind):
    call = made(kind)
    for number in range(2):
        path = tmp_path / str(number)
        ref = call.remote(how, path)
        while not path.exists():
            time.sleep(0.005)
        time.sleep(0.1)  # it waits now, or will in a moment
        started = time.monotonic()
        ray.cancel(ref, recursive=False)
        with pytest.raises(TaskCancelledError):
            ray.get(ref, timeout=LIMIT_S)
        assert time.monotonic() - started < LONG_S / 2
