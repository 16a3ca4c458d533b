"""The heap store: messages, memory, and a model that it is checked against."""

import gc

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ray.builtin.heap_store import ALIGNED_FROM_BYTES, HeapStore, HeapStoreServer
from ray.exceptions import ObjectExistsError, ObjectStoreFullError, RayConnectionError
from ray.testing.contracts._checks_store import an_id, fill, read

CAPACITY = 1000


def test_a_full_store_names_the_biggest_holders():
    store = HeapStore(CAPACITY)
    for number in range(8):
        fill(store, an_id(number), b"x" * (10 + number))
    fill(store, an_id(100), b"x" * 500)
    store.get(an_id(100))
    store.create(an_id(101), 300)
    with pytest.raises(ObjectStoreFullError) as caught:
        store.create(an_id(102), 200)
    text = str(caught.value)
    assert text.index(f"{an_id(100).hex()} 500 bytes held 1 times") < text.index(
        f"{an_id(101).hex()} 300 bytes not seal"
    )
    assert "10 objects" in text
    assert an_id(0).hex() not in text, "the small ones are not named"
    assert (caught.value.needed_bytes, caught.value.capacity_bytes, caught.value.used_bytes) == (200, 1000, 908)


def test_deleted_objects_that_are_held_are_named():
    store = HeapStore(CAPACITY)
    fill(store, an_id(1), b"x" * CAPACITY)
    store.get(an_id(1))
    store.delete(an_id(1))
    with pytest.raises(ObjectStoreFullError, match=an_id(1).hex()):
        store.create(an_id(2), 1)
    with pytest.raises(ObjectStoreFullError, match="larger than the store"):
        HeapStore(CAPACITY).create(an_id(2), CAPACITY + 1)


def test_no_capacity_is_no_limit():
    store = HeapStore()
    store.create(an_id(1), 50_000_000)
    assert store.stats().capacity_bytes == 0


def test_the_address_carries_the_capacity():
    server = HeapStoreServer(1234)
    assert HeapStore.open(server.address).stats().capacity_bytes == 1234
    server.close()
    with pytest.raises(ConnectionError, match="plasma:7"):
        HeapStore.open("plasma:7")


def test_a_closed_store_is_empty():
    store = HeapStore(CAPACITY)
    fill(store, an_id(1), b"x")
    view = store.get(an_id(1))
    store.close()
    assert bytes(view) == b"x"
    assert store.get(an_id(1)) is None
    store.release(an_id(1))
    with pytest.raises(RayConnectionError, match="closed"):
        store.create(an_id(2), 1)


def test_a_view_outlives_release_and_delete():
    """Whatever the accounting says, memory that Python sees is not unmapped."""
    store = HeapStore()
    fill(store, an_id(1), b"x" * ALIGNED_FROM_BYTES)
    view = store.get(an_id(1))
    store.release(an_id(1))
    store.delete(an_id(1))
    gc.collect()
    assert bytes(view) == b"x" * ALIGNED_FROM_BYTES


def test_a_slice_of_the_creator_does_not_hinder_seal():
    store = HeapStore()
    view = store.create(an_id(1), 10)
    part = memoryview(bytearray(view))  # a consumer of the buffer
    array = view[2:4]
    store.seal(an_id(1))
    with pytest.raises(ValueError, match="released"):
        view[0] = 1
    del part, array
    assert read(store, an_id(1)) == bytes(10)


class Model(RuleBasedStateMachine):
    """The store against dictionaries."""

    ids = st.integers(0, 4).map(an_id)

    def __init__(self):
        super().__init__()
        self.store = HeapStore(CAPACITY)
        self.unsealed = {}
        self.sealed = {}
        #: {id: how often it is held}
        self.holds = {}
        #: [id, bytes, holds] of deleted objects, oldest first
        self.dying = []

    @property
    def used(self):
        return sum(map(len, [*self.unsealed.values(), *self.sealed.values(), *(data for _, data, _ in self.dying)]))

    @rule(object_id=ids, data=st.binary(max_size=20) | st.binary(min_size=200, max_size=600))
    def create(self, object_id, data):
        exists = object_id in self.unsealed or object_id in self.sealed
        if exists:
            with pytest.raises(ObjectExistsError):
                self.store.create(object_id, len(data))
        elif self.used + len(data) > CAPACITY:
            with pytest.raises(ObjectStoreFullError):
                self.store.create(object_id, len(data))
        else:
            self.store.create(object_id, len(data))[:] = data
            self.unsealed[object_id] = data

    @rule(object_id=ids)
    def seal(self, object_id):
        if object_id in self.unsealed:
            self.store.seal(object_id)
            self.sealed[object_id] = self.unsealed.pop(object_id)
        else:
            with pytest.raises(KeyError):
                self.store.seal(object_id)

    @rule(object_id=ids)
    def abort(self, object_id):
        if object_id in self.unsealed:
            self.store.abort(object_id)
            del self.unsealed[object_id]
        else:
            with pytest.raises(KeyError):
                self.store.abort(object_id)

    @rule(object_id=ids)
    def get(self, object_id):
        view = self.store.get(object_id)
        assert (None if view is None else bytes(view)) == self.sealed.get(object_id)
        if view is not None:
            self.holds[object_id] = self.holds.get(object_id, 0) + 1

    @rule(object_id=ids)
    def release(self, object_id):
        self.store.release(object_id)
        for entry in self.dying:
            if entry[0] == object_id:
                entry[2] -= 1
                if not entry[2]:
                    self.dying.remove(entry)
                return
        if self.holds.get(object_id):
            self.holds[object_id] -= 1

    @rule(object_id=ids)
    def delete(self, object_id):
        self.store.delete(object_id)
        self.unsealed.pop(object_id, None)
        data = self.sealed.pop(object_id, None)
        holds = self.holds.pop(object_id, 0)
        if data is not None and holds:
            self.dying.append([object_id, data, holds])

    @precondition(lambda self: self.sealed)
    @rule()
    def read_everything(self):
        for object_id, data in self.sealed.items():
            assert read_without_hold(self.store, object_id) == data

    @invariant()
    def the_same_objects_and_bytes(self):
        for number in range(5):
            assert self.store.contains(an_id(number)) == (an_id(number) in self.sealed)
        stats = self.store.stats()
        assert (stats.objects, stats.used_bytes) == (len(self.unsealed) + len(self.sealed), self.used)


def read_without_hold(store, object_id):
    return bytes(store._objects[object_id].memory)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


def test_memory_is_used_again_only_when_nobody_sees_it():
    store = HeapStore()
    size = 1 << 20

    def put(number: int, content: bytes) -> bytes:
        object_id = number.to_bytes(20, "big")
        view = store.create(object_id, size)
        view[:] = content * size
        view.release()
        store.seal(object_id)
        return object_id

    first = put(1, b"a")
    seen = store.get(first)
    part = seen[100:200]
    del seen
    store.release(first)
    store.delete(first)
    put(2, b"b")
    assert bytes(part) == b"a" * 100

    del part
    third = put(3, b"c")
    store.delete(third)
    assert store.create((4).to_bytes(20, "big"), size)[:4] == b"cccc", "its pages are warm"
    assert store.stats().used_bytes == 2 * size
    store.close()
