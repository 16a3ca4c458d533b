"""``store="tests.faults.two_nodes"``: a session whose workers are of another node than the driver, as far as they know.

Each of the two nodes has a store of its own, a real one, and the ids of the processes say which is whose. Only the node
manager knows better.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import msgspec

from ray.abc import Store, StoreServer
from ray.plugins import PluginInfo, hookimpl

_BETWEEN = "|"
#: Of the first byte of an id.
_UPPER = 0x80


class TwoNodesOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the nodes are like."""

    inner: str = "plasma"
    """Their stores."""
    here: int = 0
    """Of each so many workers one is of the driver's node; 0: none."""
    capacity_bytes: int = 0
    """Of each store; 0 for what ``ray.init(object_store_memory=...)`` says."""


PLUGIN = PluginInfo(
    seam="store",
    name="two-nodes",
    api=2,
    summary="a store for each of two nodes that are one",
    capabilities=frozenset(),  # as they are: those of the real ones
    options=TwoNodesOptions,
)


class Servers(StoreServer):
    """Those of both nodes."""

    def __init__(self, servers: list[StoreServer]) -> None:
        self.servers = servers
        self.address = _BETWEEN.join(server.address for server in servers)
        self.pid = servers[0].pid
        self.max_clients = servers[0].max_clients

    def owner_lost(self, process_id: bytes) -> None:
        for server in self.servers:
            server.owner_lost(process_id)

    def close(self) -> None:
        for server in self.servers:
            server.close()


def other_node(id: bytes) -> bytes:
    """The same process, if it were of the other node: that of a session has a number in the upper half."""
    return bytes((id[0] ^ _UPPER,)) + id[1:]


def _tell_workers_so(here: int) -> None:
    """In the node manager: workers get such ids, and may use them."""
    from ray.protocol import handshake
    from ray.runtime.node.worker_pool import WorkerPool

    start, agree = WorkerPool.start_worker, handshake._check_agreement
    count = 0

    def start_worker(pool: Any, *args: Any, **kwargs: Any) -> bytes:
        nonlocal count
        count += 1
        new_id = pool._new_id
        if not here or count % here:
            pool._new_id = lambda: other_node(new_id())
        try:
            return start(pool, *args, **kwargs)
        finally:
            pool._new_id = new_id

    def check_agreement(what: str, peer: Any, here: Any) -> None:
        if what != "node":
            agree(what, peer, here)

    WorkerPool.start_worker = start_worker  # type: ignore[method-assign]
    handshake._check_agreement = check_agreement


@hookimpl
def ray_start_store(options: TwoNodesOptions, session_dir: str, capacity_bytes: int) -> StoreServer:
    """One store for each node."""
    _tell_workers_so(options.here)
    folders = [os.path.join(session_dir, name) for name in ("a", "b")]
    for folder in folders:
        os.mkdir(folder, 0o700)
    return Servers([_start(options, folder, options.capacity_bytes or capacity_bytes) for folder in folders])


def _start(options: TwoNodesOptions, session_dir: str, capacity_bytes: int) -> StoreServer:
    if options.inner == "heap":
        from ray.builtin.heap_store import HeapStoreServer

        return HeapStoreServer(capacity_bytes)
    if options.inner == "shm":
        from ray_store_shm.process import ShmStoreServer

        return ShmStoreServer(session_dir, capacity_bytes, 3.0)
    from ray_store_plasma.options import PlasmaOptions
    from ray_store_plasma.process import PlasmaStoreServer

    return PlasmaStoreServer(session_dir, capacity_bytes, PlasmaOptions())


@hookimpl
def ray_open_store(options: TwoNodesOptions, address: str) -> Store:
    """That of the node of this process."""
    addresses = address.split(_BETWEEN)
    own = addresses[_is_elsewhere()]
    if options.inner == "heap":
        from ray.builtin.heap_store import HeapStore

        return HeapStore.open(own)
    if options.inner == "shm":
        from ray_store_shm.client import ShmStore

        return ShmStore(own)
    from ray_store_plasma.client import PlasmaStore

    return PlasmaStore(own)


def _is_elsewhere() -> bool:
    """A worker opens its store before anything but its ``main`` knows its id."""
    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "worker_main":
            return not frame.f_locals["worker_id"][0] & _UPPER
        frame = frame.f_back
    return False
