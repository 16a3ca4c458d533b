from collections.abc import Callable, Iterator

import pytest
from ray_store_traced import TracedStore, TracedStoreServer

from ray.abc.store import Store
from ray.testing.contracts.store import StoreContract


class TestTracedStore(StoreContract):
    """Everything that the seam demands of a store."""

    @pytest.fixture
    def open_store(self) -> Iterator[Callable[[], Store]]:
        server = TracedStoreServer(self.capacity_bytes)
        yield lambda: TracedStore(server.address)
        server.close()

    @pytest.fixture
    def peek(self, store: TracedStore) -> Callable[[bytes], bytes | None]:
        return lambda object_id: bytes(store._objects[object_id].view) if object_id in store._objects else None
