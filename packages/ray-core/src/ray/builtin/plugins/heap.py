"""``store="heap"``: every object lives in the memory of the process that owns it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.plugins import PluginInfo, hookimpl

if TYPE_CHECKING:
    from ray.abc import Store, StoreServer

PLUGIN = PluginInfo(
    seam="store",
    name="heap",
    api=2,
    summary="objects in the heap of their owner; nothing shared, nothing to install",
)


@hookimpl
def ray_start_store(capacity_bytes: int) -> StoreServer:
    """Nothing to start; the address carries the capacity."""
    from ray.builtin.heap_store import HeapStoreServer

    return HeapStoreServer(capacity_bytes)


@hookimpl
def ray_open_store(address: str) -> Store:
    """A heap of this process's own."""
    from ray.builtin.heap_store import HeapStore

    return HeapStore.open(address)
