"""Stores that are full, slow or out of reach now and then: each call gives its value or says what happened."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter

import pytest

import ray
from ray.exceptions import ObjectLostError, ObjectStoreFullError

STORES = [name for name in ("shm", "plasma") if importlib.util.find_spec(f"ray_store_{name}")]
LARGE = 300_000
TIMEOUT_S = 60

pytestmark = [pytest.mark.timeout(300), pytest.mark.parametrize("inner", STORES)]


def content(number, size=LARGE):
    return bytes([number % 251]) * (size + number)


@ray.remote
def make(number):
    return content(number)


@ray.remote
def check(number, value):
    return value == content(number)


@ray.remote
class Holder:
    def __init__(self):
        self.values = {}

    def keep(self, number, value):
        self.values[number] = value
        return content(number + 1)

    def right(self):
        return all(value == content(number) for number, value in self.values.items())


def begin(start, inner, **faults):
    options = {"store": {"inner": inner, **faults}}
    return start(num_cpus=2, store="tests.faults.faulty_store", options=options, log_to_driver=False)


def outcome(call, *kinds):
    """The value, or the kind of the error."""
    try:
        return call()
    except kinds as error:
        return type(error)


@pytest.mark.slow
def test_slow(start, inner, rounds):
    """Nothing is different but the time it takes."""
    begin(start, inner, seed=1, max_delay_s=0.01)
    holder = Holder.remote()
    for base in range(0, rounds(100, 2000), 10):
        refs = [make.remote(base + i) for i in range(10)]
        puts = [ray.put(content(base + i)) for i in range(10)]
        checks = [check.remote(base + i, ref) for i, ref in enumerate([*refs])]
        checks += [check.remote(base + i, ref) for i, ref in enumerate(puts)]
        assert all(ray.get(checks, timeout=TIMEOUT_S))
        assert ray.get(holder.keep.remote(base, puts[0]), timeout=TIMEOUT_S) == content(base + 1)
    assert ray.get(holder.right.remote(), timeout=TIMEOUT_S)
    ray.kill(holder)


@pytest.mark.slow
def test_full_now_and_then(start, inner, rounds):
    """An error of that call only, where it is asked for; nothing is left of what was refused."""
    begin(start, inner, seed=2, full=0.3)
    seen = Counter()
    for number in range(rounds(60, 1000)):
        value = outcome(lambda number=number: ray.get(make.options(max_retries=0).remote(number)), ObjectStoreFullError)
        seen["task full" if value is ObjectStoreFullError else "task"] += 1
        assert value in (ObjectStoreFullError, content(number))
        ref = outcome(lambda number=number: ray.put(content(number)), ObjectStoreFullError)
        seen["put full" if ref is ObjectStoreFullError else "put"] += 1
        if ref is not ObjectStoreFullError:
            right = outcome(lambda number=number, ref=ref: ray.get(check.remote(number, ref)), ObjectStoreFullError)
            assert right in (True, ObjectStoreFullError)
        large = outcome(lambda number=number: check.remote(number, content(number)), ObjectStoreFullError)
        seen["argument full" if large is ObjectStoreFullError else "argument"] += 1
        if large is not ObjectStoreFullError:
            assert ray.get(large, timeout=TIMEOUT_S)
    assert len(seen) == 6, f"each kind of call was hit now and then: {seen}"


@pytest.mark.slow
def test_workers_that_lose_their_connection_to_the_store(start, inner, rounds):
    """Such a worker is of no use: it ends, and another one does the work."""
    begin(start, inner, seed=3, cut=0.02, spare=os.getpid())
    for base in range(0, rounds(40, 1000), 10):
        refs = [make.options(max_retries=-1).remote(base + i) for i in range(10)]
        checks = [check.options(max_retries=-1).remote(base + i, ref) for i, ref in enumerate(refs)]
        assert all(ray.get(checks, timeout=TIMEOUT_S))
        assert ray.get(refs, timeout=TIMEOUT_S) == [content(base + i) for i in range(10)]


def test_objects_that_are_lost(start, inner, rounds):
    """An error that names the object; never wrong bytes, never a wait without end."""
    begin(start, inner, seed=4, lost=0.1)
    seen = Counter()
    for number in range(rounds(60, 1000)):
        ref = make.remote(number)
        right = outcome(lambda number=number, ref=ref: ray.get(check.remote(number, ref), timeout=30), ObjectLostError)
        value = outcome(lambda ref=ref: ray.get(ref, timeout=30), ObjectLostError)
        assert right in (True, ObjectLostError)
        assert value in (content(number), ObjectLostError)
        seen[type(value).__name__] += 1
    assert set(seen) == {"bytes", "type"}, "some are lost, and said to be"
