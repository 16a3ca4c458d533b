"""``store="shm"``: one sealed memory file per object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from ray.abc.store import LISTING, NOTIFICATIONS, SHARED
from ray.plugins import PluginInfo, hookimpl

if TYPE_CHECKING:
    from ray.abc import Store, StoreServer


class ShmOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the shm store."""

    full_timeout_s: Annotated[float, msgspec.Meta(ge=0, le=30)] = 3.0
    """How long ``create`` waits for others to let go of their objects when the store is full."""
    keep_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 2.0
    """How long memory of deleted objects is kept for their creator's next ones; 0 for new memory for each object."""
    memcopy_threads: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2
    """Threads that may copy one large value, where that is faster than with one."""


PLUGIN = PluginInfo(
    seam="store",
    name="shm",
    api=2,
    summary="one sealed memory file per object; the kernel keeps objects immutable",
    capabilities=frozenset({SHARED, NOTIFICATIONS, LISTING}),
    options=ShmOptions,
    machine_options=frozenset({"memcopy_threads"}),
)


@hookimpl
def ray_start_store(options: ShmOptions, session_dir: str, capacity_bytes: int) -> StoreServer:
    """Fork the broker."""
    import ray_store_shm.client  # noqa: F401 - for the workers, which this process forks later
    from ray_store_shm.process import ShmStoreServer

    return ShmStoreServer(session_dir, capacity_bytes, options.full_timeout_s, keep_s=options.keep_s)


@hookimpl
def ray_open_store(options: ShmOptions, address: str) -> Store:
    """Connect to it."""
    from ray_store_shm.client import ShmStore

    return ShmStore(address, memcopy_threads=options.memcopy_threads)
