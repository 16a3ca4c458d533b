"""Values that were stored do not change: arrays come back read-only, copies on request."""

from __future__ import annotations

import pytest
from tests.quick import first_of

import ray

np = pytest.importorskip("numpy")

SIZES = first_of([8, 300_000, 10_000], 2)


@ray.remote
def try_to_write(array):
    try:
        array[0] = 99.0
    except ValueError as error:
        return str(error)
    return "written"


@ray.remote
def make(size):
    return np.arange(size, dtype=np.float64)


@ray.remote
class Keeper:
    def keep(self, array, more):
        self.array, self.more = array, more

    def write(self):
        """In place, on what was given as arguments."""
        said = []
        for array in (self.array, self.more["array"]):
            try:
                array += 1
            except ValueError as error:
                said.append(str(error))
        return said

    def first(self):
        return float(self.array[0])


def refuses_writing(array):
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 99.0
    with pytest.raises(ValueError, match="read-only"):
        array += 1
    with pytest.raises(ValueError):
        array.flags.writeable = True
    with pytest.raises(ValueError, match="read-only"):
        array.sort()
    with pytest.raises((TypeError, BufferError)):
        memoryview(array).cast("B")[0] = 1


@pytest.mark.parametrize("size", SIZES)
def test_get_gives_read_only_arrays(start, size):
    start(num_cpus=1)
    original = np.arange(size, dtype=np.float64)
    for ref in (ray.put(original), ray.put({"in": [original]}), make.remote(size)):
        value = ray.get(ref, timeout=30)
        array = value["in"][0] if isinstance(value, dict) else value
        refuses_writing(array)
        again = ray.get(ref)
        again = again["in"][0] if isinstance(again, dict) else again
        assert (again == np.arange(size)).all()
    original[0] = 7  # the caller's own stays the caller's


@pytest.mark.parametrize("size", SIZES)
def test_later_changes_of_the_original_do_not_show(start, size):
    start(num_cpus=1)
    original = np.zeros(size)
    ref = ray.put(original)
    original[:] = 1
    assert ray.get(ref).sum() == 0


@pytest.mark.parametrize("size", SIZES)
def test_copies_are_writable_and_separate(start, size):
    start(num_cpus=1)
    ref = ray.put({"array": np.zeros(size), "bytes": bytearray(b"abc")})
    first, second = ray.get(ref, copy=True), ray.get([ref], copy=True)[0]
    first["array"][:] = 1
    first["bytes"][0] = 0
    assert second["array"].flags.writeable
    assert second["array"].sum() == 0
    assert ray.get(ref)["array"].sum() == 0
    assert second["bytes"] == bytearray(b"abc")
    result = ray.get(make.remote(size), timeout=30, copy=True)
    result += 1
    assert result[0] == 1


@pytest.mark.parametrize("size", SIZES)
def test_arguments_are_read_only(start, size):
    start(num_cpus=1)
    array = np.zeros(size)
    ref = ray.put(array)
    for argument in (array, ref, make.remote(size)):
        assert "read-only" in ray.get(try_to_write.remote(argument), timeout=30)
    assert ray.get(ref).sum() == 0
    array[0] = 5


def test_in_place_operation_on_an_actors_stored_argument(start):
    start(num_cpus=1)
    keeper = Keeper.remote()
    ref = ray.put(np.zeros(1000))
    ray.get(keeper.keep.remote(ref, {"array": np.ones(10)}), timeout=30)
    said = ray.get(keeper.write.remote(), timeout=30)
    assert len(said) == 2
    assert all("read-only" in text for text in said)
    assert ray.get(keeper.first.remote(), timeout=30) == 0.0


def test_views_outlive_their_refs(start):
    """Memory that is still seen is not given to others."""
    start(num_cpus=1)
    views = []
    for i in range(20):
        ref = ray.put(np.full(50_000, i))
        views.append(ray.get(ref))
        views.append(ray.get(ref)[10:20])
        del ref
    for _ in range(40):
        ray.put(np.full(50_000, -1))
    for i in range(20):
        assert (views[2 * i] == i).all()
        assert (views[2 * i + 1] == i).all()
