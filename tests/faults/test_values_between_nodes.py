"""One worker in two is of another node than the driver; and the driver's store has sent objects to the disk."""

from __future__ import annotations

import os

import numpy as np
import pytest
from tests.faults.values import MIB, STORES, AsyncKeeper, Keeper, first, here, start
from tests.quick import first_of

import ray
from ray.exceptions import OwnerDiedError
from ray.ids import object_id, process_of
from ray.testing.inside import keepers, leave_result, stored_objects
from ray.testing.waiting import eventually


@pytest.fixture(params=first_of(STORES, 2))
def mixed(request):
    with start(request.param, here=2):
        yield request.param


def on_both_nodes():
    """An actor of the driver's node, and one of the other."""
    found = {}
    while len(found) < 2:
        actor = Keeper.options(num_cpus=0).remote()
        found.setdefault(ray.get(actor.where.remote()) == here(), actor)
    return found[True], found[False]


def test_a_result_of_a_near_attempt_that_died_is_not_taken(mixed, tmp_path):
    """An attempt that has stored its result, and died before it said so, may have been on either node."""

    @ray.remote(max_retries=20)
    def dies_often(path, nbytes):
        with open(path, "a") as file:
            file.write("x")
        attempt = os.path.getsize(path)
        if attempt < 4:
            task = ray.get_runtime_context().get_task_id()
            leave_result(object_id(bytes.fromhex(task)), process_of(bytes.fromhex(task)), nbytes)
            os._exit(1)
        return np.full(nbytes, attempt, np.uint8)

    for round in range(6):  # what is smaller than 1 MiB stays out of the store
        path = tmp_path / str(round)
        ref = dies_often.remote(str(path), MIB >> round % 2)
        assert int(ray.get(ref)[0]) == 4
        del ref
        eventually(lambda: not stored_objects(), why="it is not freed")


def test_refs_handed_on_from_node_to_node(mixed):
    near, far = on_both_nodes()
    for maker, reader in ((near, far), (far, near)):
        refs = ray.get(maker.make.remote(7))
        assert ray.get(reader.keep.remote(refs)) == 1
        del refs  # the reader alone holds it
        assert ray.get(reader.read.remote()) == 7
        assert ray.get(reader.read.remote()) == 7
        ray.get(reader.forget.remote())
        eventually(lambda maker=maker: not ray.get(maker.objects.remote()), why="it is not freed")


def test_a_result_of_another_node_is_stored_once_for_all_workers_of_this_one(mixed):
    near, far = on_both_nodes()
    result = far.large.remote(7)
    assert ray.get([near.first.remote(result) for _ in range(3)] + [far.first.remote(result)]) == [7] * 4
    assert (stored_objects(), keepers()) == ((0, {True, False}) if mixed == "heap" else (1, {False}))
    del result
    eventually(lambda: not stored_objects(), why="it is not freed")


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
