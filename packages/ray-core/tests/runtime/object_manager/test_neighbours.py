"""Stores of other nodes of this machine, of which some do not answer."""

from __future__ import annotations

import threading

from ray.builtin.heap_store import HeapStore
from ray.exceptions import RayConnectionError
from ray.runtime.object_manager.neighbours import Neighbours
from ray.testing import eventually

THERE = b"\0\0\0\2"
KEY, VALUE = b"k" * 20, bytes(range(251))


class Standing(HeapStore):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()
        self.released: list[bytes] = []

    def get(self, object_id: bytes) -> memoryview | None:
        assert self.goes_on.wait(20)
        return super().get(object_id)

    def release(self, object_id: bytes) -> None:
        super().release(object_id)
        self.released.append(object_id)


def test_a_store_that_stands_still_is_not_waited_for_again() -> None:
    store = Standing()
    store.put(KEY, [VALUE], len(VALUE))
    stores = Neighbours(lambda address: store, 0.05)
    stores.meet(THERE, "near")
    for _ in range(3):
        with stores.reading(THERE, KEY) as found:
            assert found is None
    store.goes_on.set()
    eventually(lambda: store.released == [KEY])
    closed = threading.Event()
    store.close = closed.set  # type: ignore[method-assign]
    stores.gone(THERE)
    assert closed.wait(20), "its memory is kept as long as it is open"


def test_the_store_of_a_dead_node_is_closed() -> None:
    closed = threading.Event()
    store = HeapStore()
    store.close = closed.set  # type: ignore[method-assign]
    store.put(KEY, [VALUE], len(VALUE))
    stores = Neighbours(lambda address: store)
    stores.meet(THERE, "near")
    with stores.reading(THERE, KEY) as found:
        assert found == VALUE
    stores.gone(THERE)
    assert closed.wait(20)
    with stores.reading(THERE, KEY) as found:
        assert found is None


def test_a_store_that_has_ended_has_nothing() -> None:
    def ended(address: str) -> HeapStore:
        raise RayConnectionError("it has ended")

    stores = Neighbours(ended)
    stores.meet(THERE, "near")
    with stores.reading(THERE, KEY) as found:
        assert found is None
