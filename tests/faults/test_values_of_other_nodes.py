"""Workers are of another node than the driver, with a store of its own: every value gets where it is needed."""

from __future__ import annotations

import asyncio
import os
import time

import numpy as np
import pytest

import ray
from ray.exceptions import OwnerDiedError, RayTaskError, WorkerCrashedError
from ray.runtime import interface

STORES = ("heap", "plasma", "shm")
MIB = 1 << 20


def start(store, **options):
    nodes = {"inner": store, **options}
    return ray.init(num_cpus=2, store="tests.faults.two_nodes", options={"store": nodes}, log_to_driver=False)


@pytest.fixture(params=STORES)
def away(request):
    """All workers are of the other node."""
    with start(request.param):
        yield request.param


@pytest.fixture(params=STORES)
def mixed(request):
    """One worker in two is."""
    with start(request.param, here=2):
        yield request.param


def here():
    return ray.get_runtime_context().get_node_id()


def objects():
    """How many are in the store of this process."""
    return interface.current().store.stats().objects


def until(condition, limit_s=10.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@ray.remote
def node():
    return here()


@ray.remote
def large(value, count=MIB):
    return np.full(count, value, np.uint8)


@ray.remote
def first(*arrays):
    return [int(array[0]) for array in arrays]


@ray.remote
def count_objects():
    return objects()


@ray.remote
class Keeper:
    """Holds what it is given, and makes things of its own."""

    def __init__(self, *values):
        self.values = list(values)

    def where(self):
        return here()

    def firsts(self):
        return [int(value[0]) for value in self.values]

    def make(self, value):
        return [ray.put(np.full(MIB, value, np.uint8))]

    def keep(self, refs):
        self.values = refs
        return len(refs)

    def read(self):
        return int(ray.get(self.values[0])[0])

    def forget(self):
        self.values = []

    def objects(self):
        return objects()


@ray.remote
class AsyncKeeper:
    def __init__(self):
        self.seen = []

    async def see(self, number, array):
        self.seen.append(number)
        await asyncio.sleep(0)
        return int(array[0])

    async def order(self):
        return self.seen

    async def read(self, refs):
        return int((await refs[0])[0])


def on_both_nodes():
    """An actor of the driver's node, and one of the other."""
    found = {}
    while len(found) < 2:
        actor = Keeper.options(num_cpus=0).remote()
        found.setdefault(ray.get(actor.where.remote()) == here(), actor)
    return found[True], found[False]


# --- results --------------------------------------------------------------------------------------------------------


def test_workers_are_of_the_other_node(away):
    assert ray.get(node.remote()) != here()


def test_large_results(away):
    refs = [large.remote(value) for value in range(8)]
    ready, rest = ray.wait(refs, num_returns=8, timeout=30_000)
    assert (len(ready), rest) == (8, [])
    assert [int(array[0]) for array in ray.get(refs)] == list(range(8))
    assert ray.get(count_objects.remote()) == 0


def test_large_results_of_several(away):
    @ray.remote(num_returns=2)
    def two():
        return np.ones(MIB), "small"

    array, text = ray.get(two.remote())
    assert (array.sum(), text) == (MIB, "small")


def test_large_errors(away):
    @ray.remote
    def broken():
        raise ValueError("x" * MIB)

    with pytest.raises(RayTaskError) as failure:
        ray.get(broken.remote())
    assert isinstance(failure.value, ValueError)


def test_a_retried_task(away, tmp_path):
    @ray.remote(max_retries=1)
    def dies_once(path):
        if not os.path.exists(path):
            open(path, "w").close()
            os._exit(1)
        return np.full(MIB, 5, np.uint8)

    assert int(ray.get(dies_once.remote(str(tmp_path / "mark")))[0]) == 5


def test_a_result_of_a_near_attempt_that_died_is_not_taken(mixed, tmp_path):
    """An attempt that has stored its result, and died before it said so, may have been on either node."""

    @ray.remote(max_retries=20)
    def dies_often(path):
        with open(path, "a") as file:
            file.write("x")
        attempt = os.path.getsize(path)
        if attempt < 4:
            runtime = interface.current()
            call, store = runtime.desk.call, runtime.store
            if call.peer.near and runtime.values.shared:
                store.delete(call.task.id + bytes(4))
                store.put(call.task.id + bytes(4), [bytes(MIB)], MIB)
            os._exit(1)
        return np.full(MIB, attempt, np.uint8)

    for round in range(4):
        path = tmp_path / str(round)
        ref = dies_often.remote(str(path))
        assert int(ray.get(ref)[0]) == 4
        del ref
        until(lambda: objects() == 0)


def test_a_worker_that_dies(away):
    @ray.remote(max_retries=0)
    def dies(array):
        os._exit(1)

    with pytest.raises(WorkerCrashedError):
        ray.get(dies.remote(ray.put(np.ones(MIB))))


# --- arguments ------------------------------------------------------------------------------------------------------


def test_large_arguments(away):
    array = np.full(MIB, 3, np.uint8)
    assert ray.get(first.remote(array, array + 1)) == [3, 4]
    assert ray.get([first.remote(array) for _ in range(20)]) == [[3]] * 20


def test_refs_as_arguments(away):
    put, result = ray.put(np.full(MIB, 1, np.uint8)), large.remote(2)
    assert ray.get([first.remote(put, result, put) for _ in range(20)]) == [[1, 2, 1]] * 20


def test_arguments_of_actors(away):
    put, result = ray.put(np.full(MIB, 1, np.uint8)), large.remote(2)
    actor = Keeper.remote(put, result, np.full(MIB, 3, np.uint8))
    assert ray.get(actor.firsts.remote()) == [1, 2, 3]
    async_actor = AsyncKeeper.remote()
    calls = [async_actor.see.remote(number, put if number % 2 else result) for number in range(20)]
    assert ray.get(calls) == [1 if number % 2 else 2 for number in range(20)]
    assert ray.get(async_actor.order.remote()) == list(range(20))


def test_what_nobody_holds_is_freed(away):
    ref = ray.put(np.ones(MIB))
    assert ray.get(first.remote(ref)) == [1]
    result = large.remote(1)
    ray.get(result)
    del ref, result
    until(lambda: objects() == 0)
    until(lambda: ray.get(count_objects.remote()) == 0)


# --- refs -----------------------------------------------------------------------------------------------------------


def test_refs_inside_values(away):
    @ray.remote
    def read(refs):
        return [int(array[0]) for array in ray.get(refs)]

    refs = [ray.put(np.full(MIB, 1, np.uint8)), large.remote(2)]
    assert ray.get(read.remote(refs)) == [1, 2]
    assert ray.get(read.remote(ray.put(refs))) == [1, 2]
    assert ray.get(AsyncKeeper.remote().read.remote(refs)) == 1


def test_refs_that_workers_have_made(away):
    actor = Keeper.remote()
    [ref] = ray.get(actor.make.remote(7))
    assert int(ray.get(ref)[0]) == 7
    assert ray.get(first.remote(ref)) == [7]
    assert ray.get(Keeper.remote(ref).firsts.remote()) == [7]


def test_refs_handed_on_from_node_to_node(mixed):
    near, far = on_both_nodes()
    for maker, reader in ((near, far), (far, near)):
        refs = ray.get(maker.make.remote(7))
        assert ray.get(reader.keep.remote(refs)) == 1
        del refs  # the reader alone holds it
        assert ray.get(reader.read.remote()) == 7
        assert ray.get(reader.read.remote()) == 7
        ray.get(reader.forget.remote())
        until(lambda maker=maker: ray.get(maker.objects.remote()) == 0)


@pytest.mark.parametrize("dies", ["near", "far"])
def test_an_owner_on_either_node_dies(mixed, dies):
    near, far = on_both_nodes()
    maker, reader = (near, far) if dies == "near" else (far, near)
    ray.get(reader.keep.remote(ray.get(maker.make.remote(7))))
    ray.kill(maker)
    with pytest.raises(OwnerDiedError):
        ray.get(reader.read.remote())


def test_a_value_that_two_nodes_share(mixed):
    """Whatever has got it, and from whom: each worker gets it once more from another one that only borrows it."""
    near, far = on_both_nodes()
    ref = ray.put(np.full(MIB, 9, np.uint8))

    @ray.remote
    def pass_on(refs, depth):
        here_first = ray.get(first.remote(refs[0]))
        return here_first + (ray.get(pass_on.remote(refs, depth - 1)) if depth else [])

    assert ray.get([pass_on.remote([ref], 3) for _ in range(4)]) == [[9] * 4] * 4
    for actor in (near, far):
        ray.get(actor.keep.remote([ref]))
        assert ray.get(actor.read.remote()) == 9


# --- streams --------------------------------------------------------------------------------------------------------


def test_streams(away):
    @ray.remote(num_returns="streaming")
    def stream(count):
        for number in range(count):
            yield np.full(MIB, number, np.uint8)

    assert [int(ray.get(ref)[0]) for ref in stream.remote(40)] == list(range(40))


def test_streams_of_async_actors(away):
    @ray.remote
    class Streaming:
        async def stream(self, count):
            for number in range(count):
                yield np.full(MIB, number, np.uint8)

    actor = Streaming.remote()
    refs = actor.stream.options(num_returns="streaming").remote(40)
    assert [int(ray.get(ref)[0]) for ref in refs] == list(range(40))


def test_a_stream_goes_on_in_another_worker(away, tmp_path):
    @ray.remote(num_returns="streaming", max_retries=2)
    def stream(path):
        for number in range(10):
            if number == 5 and not os.path.exists(path):
                open(path, "w").close()
                os._exit(1)
            yield np.full(MIB, number, np.uint8)

    assert [int(ray.get(ref)[0]) for ref in stream.remote(str(tmp_path / "mark"))] == list(range(10))


# --- what is on the disk --------------------------------------------------------------------------------------------

OBJECTS, EACH = 12, 4 * MIB


@pytest.fixture
def crowded():
    """The driver's store holds a few of its objects; the others are on the disk."""
    with start("plasma", capacity_bytes=16 * MIB):
        yield [ray.put(np.full(EACH, number, np.uint8)) for number in range(OBJECTS)]


def test_spilled_arguments_of_tasks(crowded):
    assert ray.get([first.remote(ref) for ref in crowded]) == [[number] for number in range(OBJECTS)]


def test_spilled_arguments_of_actors(crowded):
    actor = AsyncKeeper.remote()
    calls = [actor.see.remote(number, ref) for number, ref in enumerate(crowded)]
    assert ray.get(calls) == list(range(OBJECTS))
    assert ray.get(actor.order.remote()) == list(range(OBJECTS))
    actors = [Keeper.options(num_cpus=0).remote(ref) for ref in crowded[:3]]
    assert ray.get([actor.firsts.remote() for actor in actors]) == [[0], [1], [2]]


def test_large_arguments_that_are_spilled(crowded):
    """They are while the tasks wait for a worker."""
    refs = [first.remote(np.full(EACH, number, np.uint8)) for number in range(OBJECTS)]
    assert ray.get(refs) == [[number] for number in range(OBJECTS)]


def test_spilled_objects_that_are_asked_for(crowded):
    @ray.remote
    def read(refs):
        return [int(ray.get(ref)[0]) for ref in refs]

    assert ray.get(read.remote(crowded)) == list(range(OBJECTS))
