"""Messages are lost, doubled, delayed and reordered, of every kind and in both directions: all results are right."""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest
from tests.stopwatch import Stopwatch

import ray

#: A quarter of the requests and a quarter of the replies is lost, as in the chaos tests of Ray itself, and more.
CHAOS = {"loss": 0.25, "duplicate": 0.1, "reorder": 0.1, "max_delay_s": 0.5}


@ray.remote(max_retries=0)
def square(path, number):
    note(path, number)
    return number * number


@ray.remote(max_retries=0)
def total(path, number, parts):
    note(path, number)
    return sum(ray.get(parts))


@ray.remote
class Book:
    def __init__(self):
        self.seen = []

    def add(self, path, number):
        note(path, number)
        self.seen.append(number)
        return len(self.seen)

    def all(self):
        return self.seen


def note(path, number):
    """One line per execution; short appends are atomic."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"%d\n" % number)
    os.close(fd)


def executions(path):
    with open(path) as file:
        return Counter(map(int, file))


@pytest.fixture
def chaos(start, tmp_path):
    """Starts a session; returns where executions are noted and what was injected is reported."""
    report = str(tmp_path / "injected")
    options = {"transport": {**CHAOS, "seed": 13, "report": report}}
    start(num_cpus=2, store="heap", transport="tests.faults.chaos_transport", options=options, log_to_driver=False)
    return str(tmp_path / "ran"), report


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_call_runs_once_and_gives_its_result(chaos, rounds):
    """Half of them tasks, half calls to an actor, whose order is kept."""
    path, _ = chaos
    count = rounds(20, 5000)
    actor = Book.remote()
    tasks = [square.remote(path, number) for number in range(count)]
    calls = [actor.add.remote(path, count + number) for number in range(count)]
    assert ray.get(tasks) == [number * number for number in range(count)]
    assert ray.get(calls) == list(range(1, count + 1))
    assert ray.get(actor.all.remote()) == list(range(count, 2 * count))
    assert executions(path) == Counter(range(2 * count))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_calls_one_by_one_and_refs_in_refs(chaos, rounds):
    """Each kind of message by itself: leases, pushes, replies, refs and their owners, large values."""
    path, report = chaos
    for number in range(rounds(3, 50)):
        parts = [square.remote(path, 1000 * number + i) for i in range(3)]
        assert ray.get(total.remote(path, 1000 * number + 10, parts)) == sum((1000 * number + i) ** 2 for i in range(3))
    large = os.urandom(300_000)
    assert ray.get(keep.remote(ray.put(large))) == large
    assert set(executions(path).values()) == {1}
    ray.shutdown()
    with open(report) as file:
        injected = sum((Counter(json.loads(line)) for line in file), Counter())
    assert min(injected[kind] for kind in ("loss", "duplicate", "reorder", "delay")) > 0


@ray.remote
def keep(value):
    return value


@pytest.mark.timeout(300)
def test_a_dead_worker_is_still_noticed(chaos):
    @ray.remote(max_retries=0)
    def die():
        os._exit(7)

    started = Stopwatch()
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(die.remote(), timeout=60)
    assert started.undisturbed_s() < 30
