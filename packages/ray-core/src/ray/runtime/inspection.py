"""What a session can tell about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.runtime.interface import RESOURCE_UNIT

if TYPE_CHECKING:
    from ray.runtime.owner import OwnerRuntime


class Inspection:
    """The inspection methods of an owner. Each asks the node manager and waits for its answer."""

    def errors(self: OwnerRuntime) -> list[dict[str, Any]]:  # type: ignore[misc]
        self._check_open()
        return list(self.node.ask("errors"))

    def nodes(self: OwnerRuntime) -> list[dict[str, Any]]:  # type: ignore[misc]
        self._check_open()
        return [{**node, "Resources": _amounts(node["Resources"])} for node in self.node.ask("nodes")]

    def cluster_resources(self: OwnerRuntime) -> dict[str, float]:  # type: ignore[misc]
        self._check_open()
        return _amounts(self.node.ask("resources"))

    def available_resources(self: OwnerRuntime) -> dict[str, float]:  # type: ignore[misc]
        self._check_open()
        return _amounts(self.node.ask("available"))

    def context(self: OwnerRuntime) -> dict[str, Any]:  # type: ignore[misc]
        return {
            "job_id": self.session_id,
            "node_id": self.node_id,
            "worker_id": self.process_id.hex(),
            "task_id": None,
            "actor_id": None,
            "attempt": 0,
            "namespace": self.namespace,
            "gpu_ids": [],
            "resources": {},
        }


def _amounts(fixed: dict[str, int]) -> dict[str, float]:
    return {name: amount / RESOURCE_UNIT for name, amount in fixed.items()}
