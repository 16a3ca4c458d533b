"""An object store for ray-core that counts what is asked of it."""

from ray_store_traced.store import TracedStore, TracedStoreServer

__all__ = ["TracedStore", "TracedStoreServer"]
