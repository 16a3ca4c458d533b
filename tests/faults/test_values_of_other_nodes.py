"""All workers are of another node than the driver, with a store of its own: every value gets where it is needed."""

from __future__ import annotations

import os

import numpy as np
import pytest
from tests.faults.values import (
    MIB,
    STORES,
    AsyncKeeper,
    Keeper,
    count_objects,
    first,
    here,
    large,
    node,
    start,
)
from tests.sessions import unchecked

import ray
from ray.exceptions import RayTaskError, WorkerCrashedError
from ray.testing import leaks
from ray.testing.inside import stored_objects
from ray.testing.waiting import eventually

nothing_left = unchecked()


@pytest.fixture(scope="module", params=STORES, autouse=True)
def away(request):
    """One session for all tests."""
    before = leaks.snapshot()
    with start(request.param):
        yield request.param
    leaks.assert_clean(before)


# --- results --------------------------------------------------------------------------------------------------------


def test_workers_are_of_the_other_node():
    assert ray.get(node.remote()) != here()


def test_large_results():
    refs = [large.remote(value) for value in range(8)]
    ready, rest = ray.wait(refs, num_returns=8, timeout=30_000)
    assert (len(ready), rest) == (8, [])
    assert [int(array[0]) for array in ray.get(refs)] == list(range(8))
    assert ray.get(count_objects.remote()) == 0


def test_large_results_of_several():
    @ray.remote(num_returns=2)
    def two():
        return np.ones(MIB), "small"

    array, text = ray.get(two.remote())
    assert (array.sum(), text) == (MIB, "small")


def test_large_errors():
    @ray.remote
    def broken():
        raise ValueError("x" * MIB)

    with pytest.raises(RayTaskError) as failure:
        ray.get(broken.remote())
    assert isinstance(failure.value, ValueError)


def test_a_retried_task(tmp_path):
    @ray.remote(max_retries=1)
    def dies_once(path):
        if not os.path.exists(path):
            open(path, "w").close()
            os._exit(1)
        return np.full(MIB, 5, np.uint8)

    assert int(ray.get(dies_once.remote(str(tmp_path / "mark")))[0]) == 5


def test_a_worker_that_dies():
    @ray.remote(max_retries=0)
    def dies(array):
        os._exit(1)

    with pytest.raises(WorkerCrashedError):
        ray.get(dies.remote(ray.put(np.ones(MIB))))


# --- arguments ------------------------------------------------------------------------------------------------------


def test_large_arguments():
    array = np.full(MIB, 3, np.uint8)
    assert ray.get(first.remote(array, array + 1)) == [3, 4]
    assert ray.get([first.remote(array) for _ in range(20)]) == [[3]] * 20


def test_refs_as_arguments():
    put, result = ray.put(np.full(MIB, 1, np.uint8)), large.remote(2)
    assert ray.get([first.remote(put, result, put) for _ in range(20)]) == [[1, 2, 1]] * 20


def test_arguments_of_actors():
    put, result = ray.put(np.full(MIB, 1, np.uint8)), large.remote(2)
    actor = Keeper.remote(put, result, np.full(MIB, 3, np.uint8))
    assert ray.get(actor.firsts.remote()) == [1, 2, 3]
    async_actor = AsyncKeeper.remote()
    calls = [async_actor.see.remote(number, put if number % 2 else result) for number in range(20)]
    assert ray.get(calls) == [1 if number % 2 else 2 for number in range(20)]
    assert ray.get(async_actor.order.remote()) == list(range(20))


def test_what_nobody_holds_is_freed():
    ref = ray.put(np.ones(MIB))
    assert ray.get(first.remote(ref)) == [1]
    result = large.remote(1)
    ray.get(result)
    del ref, result
    eventually(lambda: not stored_objects(), why="it is not freed")
    eventually(lambda: ray.get(count_objects.remote()) == 0, why="it is not freed")


# --- refs -----------------------------------------------------------------------------------------------------------


def test_refs_inside_values():
    @ray.remote
    def read(refs):
        return [int(array[0]) for array in ray.get(refs)]

    refs = [ray.put(np.full(MIB, 1, np.uint8)), large.remote(2)]
    assert ray.get(read.remote(refs)) == [1, 2]
    assert ray.get(read.remote(ray.put(refs))) == [1, 2]
    assert ray.get(AsyncKeeper.remote().read.remote(refs)) == 1


def test_refs_that_workers_have_made():
    actor = Keeper.remote()
    [ref] = ray.get(actor.make.remote(7))
    assert int(ray.get(ref)[0]) == 7
    assert ray.get(first.remote(ref)) == [7]
    assert ray.get(Keeper.remote(ref).firsts.remote()) == [7]


# --- streams --------------------------------------------------------------------------------------------------------


def test_streams():
    @ray.remote(num_returns="streaming")
    def stream(count):
        for number in range(count):
            yield np.full(MIB, number, np.uint8)

    assert [int(ray.get(ref)[0]) for ref in stream.remote(40)] == list(range(40))


def test_streams_of_async_actors():
    @ray.remote
    class Streaming:
        async def stream(self, count):
            for number in range(count):
                yield np.full(MIB, number, np.uint8)

    actor = Streaming.remote()
    refs = actor.stream.options(num_returns="streaming").remote(40)
    assert [int(ray.get(ref)[0]) for ref in refs] == list(range(40))


def test_a_stream_goes_on_in_another_worker(tmp_path):
    @ray.remote(num_returns="streaming", max_retries=2)
    def stream(path):
        for number in range(10):
            if number == 5 and not os.path.exists(path):
                open(path, "w").close()
                os._exit(1)
            yield np.full(MIB, number, np.uint8)

    assert [int(ray.get(ref)[0]) for ref in stream.remote(str(tmp_path / "mark"))] == list(range(10))
