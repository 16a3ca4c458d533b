"""``store="tests.faults.portable_store"``: the shm store as on a system that has nothing of what only Linux has."""

from __future__ import annotations

from ray.abc import Store, StoreServer
from ray.abc.store import LISTING, NOTIFICATIONS, SHARED
from ray.plugins import PluginInfo, hookimpl

PLUGIN = PluginInfo(
    seam="store",
    name="portable",
    api=2,
    summary="the shm store without what only Linux has",
    capabilities=frozenset({SHARED, NOTIFICATIONS, LISTING}),
)


@hookimpl
def ray_start_store(session_dir: str, capacity_bytes: int) -> StoreServer:
    """Fork the broker."""
    from ray_store_shm.process import ShmStoreServer
    from ray_store_shm.segments import NamedSegments
    from ray_store_shm.systems import Posix

    return ShmStoreServer(session_dir, capacity_bytes, 3.0, NamedSegments(takes_writes=False), Posix())


@hookimpl
def ray_open_store(address: str) -> Store:
    """Connect to it."""
    from ray_store_shm.client import ShmStore
    from ray_store_shm.segments import NamedSegments

    return ShmStore(address, NamedSegments(takes_writes=False))
