"""A program that waits for what actors hold for life is told so; one that waits for a task is not."""

from __future__ import annotations

import time

import pytest

import ray
from ray.exceptions import GetTimeoutError
from ray.testing import eventually


@ray.remote(num_cpus=1)
class Hog:
    def pid(self):
        return 1


@ray.remote
def cheap():
    return 1


@ray.remote
def long(seconds):
    time.sleep(seconds)


@pytest.mark.parametrize(
    "waits", ["actor", *(pytest.param(each, marks=pytest.mark.slow) for each in ("task", "custom"))]
)
def test_a_wait_for_the_end_of_an_actor_is_told(start, capfd, waits):
    start(num_cpus=2, resources={"slot": 1}, store="heap")
    hogs = [Hog.remote() for _ in range(2)] if waits != "custom" else [Hog.options(resources={"slot": 1}).remote()]
    ray.get([hog.pid.remote() for hog in hogs], timeout=30)
    more = []
    if waits == "actor":
        more = [Hog.remote()]
        ref = more[0].pid.remote()
    elif waits == "task":
        ref = cheap.remote()
    else:
        ref = cheap.options(resources={"slot": 0.5}, name="small").remote()
    with pytest.raises(GetTimeoutError) as caught:
        ray.get(ref, timeout=7)
    what = "slot 0.5: actors hold 1 of 1" if waits == "custom" else "CPU 1: actors hold 2 of 2"
    name = {"actor": "Actor Hog", "task": "cheap", "custom": "small"}[waits]
    sentence = f"{name} waits for {what} for as long as they live ({len(hogs)} Hog)."
    assert sentence in str(caught.value)
    assert capfd.readouterr().err.count(f"[ray] {sentence}") == 1
    (record,) = [each for each in ray.error_info() if each["type"] == "held_by_actors"]
    assert sentence in record["message"]
    ray.kill(hogs.pop())
    assert ray.get(ref, timeout=30) == 1


def test_a_wait_for_tasks_is_not(start, capfd):
    start(num_cpus=1, store="heap")
    refs = [long.remote(6), cheap.remote()]
    free = Hog.options(num_cpus=0).remote()
    assert ray.get(free.pid.remote(), timeout=30) == 1
    assert ray.get(refs, timeout=60) == [None, 1]
    assert "hold" not in capfd.readouterr().err
    assert ray.error_info() == []


@pytest.mark.slow
def test_actors_hold_no_more_than_there_is(start):
    """One that waits has lent its CPU to another, which keeps it."""
    start(num_cpus=1, store="heap")

    @ray.remote(num_cpus=1)
    class Lends:
        def run(self):
            hog = Hog.remote()
            ray.get(hog.pid.remote(), timeout=30)
            return ray.get(cheap.remote(), timeout=40)

    lends = Lends.remote()
    ref = lends.run.remote()
    told = eventually(lambda: [each["message"] for each in ray.error_info() if each["type"] == "held_by_actors"], 30)
    assert "cheap waits for CPU 1: actors hold 1 of 1 for as long as they live" in told[0]
    ray.kill(lends)
    del ref
