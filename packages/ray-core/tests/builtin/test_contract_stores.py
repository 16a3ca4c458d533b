"""The heap store keeps the store contract."""

import pytest

from ray.builtin.heap_store import HeapStore, HeapStoreServer
from ray.testing.contracts.store import StoreContract


class TestHeap(StoreContract):
    @pytest.fixture
    def open_store(self):
        server = HeapStoreServer(self.capacity_bytes)
        yield lambda: HeapStore.open(server.address)
        server.close()

    @pytest.fixture
    def peek(self, store):
        def peek(object_id):
            buffer = store._objects.get(object_id)
            return None if buffer is None or buffer.writable is not None else bytes(buffer.memory)

        return peek
