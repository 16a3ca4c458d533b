"""A value that is larger than the whole store is refused with words that help: no deleted reference would make room."""

from __future__ import annotations

import pytest

import ray
from ray.exceptions import ObjectStoreFullError

MIB = 1 << 20


@pytest.mark.parametrize("store", ["heap", "shm", "plasma"])
def test_it_is_said_that_the_value_is_larger(start, store):
    start(num_cpus=1, store=store, object_store_memory=100 * MIB)
    with pytest.raises(ObjectStoreFullError) as caught:
        ray.put(bytes(150 * MIB))
    said = str(caught.value)
    assert "larger than the store" in said
    assert "(" not in said.partition(": the object")[0], "no list of what is in the store, which is no reason"
    assert said.count("larger than the store") == 1
    assert "Delete references" not in said
    assert "object_store_memory" in said
    assert caught.value.needed_bytes >= 150 * MIB
    assert caught.value.capacity_bytes <= 100 * MIB
    assert ray.get(ray.put(bytes(MIB))) == bytes(MIB)


@pytest.mark.parametrize("store", ["heap", pytest.param("shm", marks=pytest.mark.slow)])
def test_a_full_store_is_another_matter(start, store):
    start(num_cpus=1, store=store, object_store_memory=100 * MIB)
    kept = ray.put(bytes(60 * MIB))
    with pytest.raises(ObjectStoreFullError, match="Delete references") as caught:
        ray.put(bytes(60 * MIB))
    assert "1 object, the biggest" in str(caught.value)
    assert "larger than the store" not in str(caught.value)
    del kept
