"""What a session in local mode tells of itself. Resources are counted, and never waited for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.ids import random_id
from ray.protocol.resources import UNIT
from ray.runtime.local.frames import facts_of, running
from ray.runtime.process.hardware import described


class Facts:
    """Of one session."""

    def __init__(self, totals: Mapping[str, int], namespace: str, held: Callable[[], list[Mapping[str, int]]]) -> None:
        """Make one.

        Args:
            totals: fixed-point amounts of resources by name.
            namespace: of the session.
            held: what live actors hold.
        """
        self.session_id = random_id(8).hex()
        self.job_id = random_id(4)
        self._node_id, self._worker_id = random_id(), random_id()
        self._totals = totals
        self._namespace = namespace
        self._held = held

    def address_info(self) -> dict[str, Any]:
        """What ``ray.init`` returns."""
        return {
            "address": "local",
            "node_ip_address": "127.0.0.1",
            "redis_address": None,
            "object_store_address": None,
            "raylet_socket_name": None,
            "webui_url": None,
            "session_dir": None,
            "node_id": self._node_id.hex(),
        }

    def for_plugins(self) -> dict[str, Any]:
        """What plugins are told of the session."""
        return {"session_id": self.session_id, "node_id": self._node_id.hex(), "kind": "driver", "address": "local"}

    def nodes(self) -> list[dict[str, Any]]:
        """See ``Runtime``."""
        return [described(self._node_id.hex(), "127.0.0.1", self.cluster_resources())]

    def cluster_resources(self) -> dict[str, float]:
        """See ``Runtime``."""
        return {name: amount / UNIT for name, amount in self._totals.items()}

    def available_resources(self) -> dict[str, float]:
        """See ``Runtime``: totals without what running tasks and live actors hold."""
        free = dict(self._totals)
        holders = self._held()
        frame = running.get()
        while frame is not None:
            if frame.actor is None:
                holders.append(frame.resources)
            frame = frame.outer
        for held in holders:
            for name, amount in held.items():
                free[name] = max(0, free.get(name, 0) - amount)
        return {name: amount / UNIT for name, amount in free.items() if amount}

    def context(self) -> dict[str, Any]:
        """See ``Runtime``."""
        ids = {"job_id": self.job_id, "node_id": self._node_id, "worker_id": self._worker_id}
        return {**ids, "namespace": self._namespace, **facts_of(running.get())}
