"""``store="plasma"``: one arena for all processes of the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.abc.store import LISTING, NOTIFICATIONS, PINNING, SHARED, SPILLING
from ray.plugins import PluginInfo, hookimpl
from ray_store_plasma.options import PlasmaOptions

if TYPE_CHECKING:
    from ray.abc import Store, StoreServer

__all__ = ["PLUGIN", "PlasmaOptions", "ray_open_store", "ray_start_store"]

PLUGIN = PluginInfo(
    seam="store",
    name="plasma",
    api=2,
    summary="one arena for all processes of the node; warm pages, eviction, spilling",
    capabilities=frozenset({SHARED, NOTIFICATIONS, PINNING, SPILLING, LISTING}),
    options=PlasmaOptions,
    machine_options=frozenset({"capacity_bytes", "spill_dir", "spill_limit_bytes", "memcopy_threads"}),
)


@hookimpl
def ray_start_store(options: PlasmaOptions, session_dir: str, capacity_bytes: int) -> StoreServer:
    """Fork the server."""
    import ray_store_plasma.client  # noqa: F401 - for the workers, which this process forks later
    from ray_store_plasma.process import PlasmaStoreServer

    return PlasmaStoreServer(session_dir, capacity_bytes, options)


@hookimpl
def ray_open_store(options: PlasmaOptions, address: str) -> Store:
    """Connect to it and map the arena."""
    from ray_store_plasma.client import PlasmaStore

    return PlasmaStore(address, memcopy_threads=options.memcopy_threads)
