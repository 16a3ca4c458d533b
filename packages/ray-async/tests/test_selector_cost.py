"""What ``epoll`` costs does not grow with the number of objects, however they are taken."""

import time

import pytest

import ray
from ray_async.selectors import EpollSelector

FEW, MANY = 500, 100_000


@pytest.fixture
def one_process():
    with ray.init(local_mode=True):
        yield


def drained_one_by_one(count):
    """Seconds a ref, when all are ready."""
    selector = EpollSelector()
    refs = [ray.put(n) for n in range(count)]
    for ref in refs:
        selector.register(ref)
    selector.select(0, 1)
    started = time.thread_time()
    seen = []
    while keys := selector.select(None, 1):
        selector.unregister(keys[0].fileobj)
        seen.append(keys[0].fileobj)
        if not selector.get_map():
            break
    took = time.thread_time() - started
    assert set(seen) == set(refs)
    selector.close()
    return took / count


def taken_in_turns(count):
    """Seconds a look, when none is unregistered and each look takes the next."""
    selector = EpollSelector()
    refs = [ray.put(n) for n in range(count)]
    for ref in refs:
        selector.register(ref)
    selector.select(0, 1)
    started = time.thread_time()
    for _ in range(FEW):
        assert len(selector.select(0, 1)) == 1
    took = time.thread_time() - started
    selector.close()
    return took / FEW


@pytest.mark.parametrize("way", [pytest.param(drained_one_by_one, marks=pytest.mark.slow), taken_in_turns])
def test_the_cost_of_one_does_not_grow_with_the_others(one_process, way):
    few = min(way(FEW) for _ in range(5))
    many = min(way(MANY) for _ in range(2))
    assert many < 4 * few  # two hundred times as many; caches account for some of it
