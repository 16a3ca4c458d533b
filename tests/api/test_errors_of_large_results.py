"""What is said of a result that the store has no room for: the task made it, and passed nothing on."""

import pytest

import ray
from ray.exceptions import ObjectStoreFullError

LIMIT_S = 30
TOO_LARGE = 30 * 2**20


@ray.remote
def large():
    return b"1" * TOO_LARGE


@ray.remote
def puts():
    return ray.put(b"1" * TOO_LARGE)


@ray.remote(num_returns="streaming")
def streams():
    yield b"1" * TOO_LARGE


@ray.remote
class Maker:
    def large(self):
        return b"1" * TOO_LARGE


def notes_of(ref):
    with pytest.raises(ObjectStoreFullError) as caught:
        ray.get(ref, timeout=LIMIT_S)
    return caught.value.__notes__


def test_the_task_whose_result_is_too_large(start):
    start(num_cpus=2, object_store_memory=20 * 2**20)
    if ray.available_resources().get("object_store_memory", 0) > TOO_LARGE:
        pytest.skip("there is no store of limited size")
    refs = {"large": large.remote(), "streams": next(streams.remote()), "Maker.large": Maker.remote().large.remote()}
    for name, ref in refs.items():
        [note] = notes_of(ref)
        assert note.startswith(f"raised for a result of task {name} (pid="), note
        assert "ray_store" not in note
    [note] = notes_of(puts.remote())
    assert note.startswith("passed on by task puts (pid=")
    assert __file__ in note
