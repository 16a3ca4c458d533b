"""What moves objects has to ask of its node manager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.abc.store import StoreServer
from ray.runtime.node.processes import NodeProcesses
from ray.runtime.node.worker_pool import WorkerPool


class ObjectsDesk:
    """Implements ``Host`` of ``NodeObjects``."""

    def __init__(
        self, title: str, processes: NodeProcesses, pool: WorkerPool, store: StoreServer, fail: Callable[[str], None]
    ) -> None:
        self.title = title
        self._pool = pool
        self._store = store
        self.send_to: Callable[[bytes, Any], bool] = processes.send_to
        self.fail = fail

    def owner_lost(self, process: bytes) -> None:
        """See ``Host``."""
        self._store.owner_lost(process)

    def expect_stop(self, pid: int) -> None:
        """See ``Host``."""
        self._pool.replaceable.add(pid)
