"""``store="tests.faults.faulty_store"``: a real store whose clients are refused, delayed and cut off."""

from __future__ import annotations

import os

import msgspec

from ray.abc import Store, StoreServer
from ray.abc.store import LISTING, NOTIFICATIONS, SHARED
from ray.plugins import PluginInfo, hookimpl


class FaultyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Rates, as ``ray.testing.faults.FaultyStore`` takes them. Each process has a client of its own."""

    inner: str = "plasma"
    seed: int = 0
    full: float = 0.0
    lost: float = 0.0
    cut: float = 0.0
    max_delay_s: float = 0.0
    full_timeout_s: float = 3.0
    spare: int = 0
    """Pid of a process that is not disturbed: the driver's, which has no other to take its place."""


PLUGIN = PluginInfo(
    seam="store",
    name="faulty",
    api=2,
    summary="a real store that fails now and then",
    capabilities=frozenset({SHARED, NOTIFICATIONS, LISTING}),
    options=FaultyOptions,
)


@hookimpl
def ray_start_store(options: FaultyOptions, session_dir: str, capacity_bytes: int) -> StoreServer:
    """The real server."""
    if options.inner == "shm":
        from ray_store_shm.process import ShmStoreServer

        return ShmStoreServer(session_dir, capacity_bytes, options.full_timeout_s)
    from ray_store_plasma.options import PlasmaOptions
    from ray_store_plasma.process import PlasmaStoreServer

    return PlasmaStoreServer(session_dir, capacity_bytes, PlasmaOptions(full_timeout_s=options.full_timeout_s))


@hookimpl
def ray_open_store(options: FaultyOptions, address: str) -> Store:
    """A client that is disturbed."""
    from ray.testing.faults import FaultyStore

    inner: Store
    if options.inner == "shm":
        from ray_store_shm.client import ShmStore

        inner = ShmStore(address)
    else:
        from ray_store_plasma.client import PlasmaStore

        inner = PlasmaStore(address)
    if os.getpid() == options.spare:
        return inner
    return FaultyStore(
        inner,
        seed=options.seed * 1_000_003 + os.getpid(),
        full=options.full,
        lost=options.lost,
        cut=options.cut,
        max_delay_s=options.max_delay_s,
    )
