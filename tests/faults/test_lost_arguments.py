"""A ref whose object is lost, given to a task: the error is that of ``ray.get``, and says what has become of it."""

import gc
import time

import pytest
from tests.quick import first_of

import ray
from ray.exceptions import ObjectLostError, OwnerDiedError

LIMIT_S = 30
#: In the store, where there is one that processes share.
SIZE = 1_000_000


@ray.remote(num_cpus=0)
class Owner:
    def put(self):
        return [ray.put(bytes(SIZE))]


@ray.remote
def size(value):
    return len(value)


@ray.remote(num_cpus=0)
class Sizes:
    def size(self, value):
        return len(value)


@ray.remote(num_cpus=0)
class AsyncSizes:
    async def size(self, value):
        return len(value)


def test_of_an_owner_that_has_died(start):
    start(num_cpus=2)
    owner, calls = Owner.remote(), [Sizes.remote(), AsyncSizes.remote()]
    ray.get([actor.size.remote(b"") for actor in calls])
    [ref] = ray.get(owner.put.remote(), timeout=LIMIT_S)
    ray.kill(owner)
    end = time.monotonic() + LIMIT_S
    while True:  # its store and its peers hear of it one after the other
        try:
            ray.get(size.remote(ref), timeout=LIMIT_S)
        except OwnerDiedError:
            break
        assert time.monotonic() < end
    for lost in (size.remote(ref), *(actor.size.remote(ref) for actor in calls)):
        with pytest.raises(OwnerDiedError):
            ray.get(lost, timeout=LIMIT_S)


@pytest.mark.parametrize("nbytes", first_of([10, SIZE]), ids=["small", "large"])
def test_of_a_ref_that_was_finalised_with_the_object_that_hands_it_on(start, nbytes):
    """The collector finalises all of a cycle: some refs have gone by the time that others' destructors use them."""
    start(num_cpus=2)
    made = []

    class Hands:
        def __init__(self):
            self.ref, self.me = ray.put(bytes(nbytes)), self

        def __del__(self):
            made.append(size.remote(self.ref))

    for _ in range(20):
        gc.disable()
        for _ in range(5):
            Hands()
        gc.collect()
        gc.enable()
    assert len(made) == 100
    for ref in made:
        try:
            found = ray.get(ref, timeout=LIMIT_S)
        except ObjectLostError as error:
            found = str(error)
        assert found == nbytes or "has finalised its last reference" in found
    del ref
    made.clear()
