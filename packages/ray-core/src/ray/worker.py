"""Errors under the names and the import path that early programs use."""

from __future__ import annotations

from typing import Any

import ray
from ray import later_names
from ray.api.inspection import get_node_ip_address
from ray.exceptions import RayConnectionError, RayTaskError

RayGetError = RayTaskError
SCRIPT_MODE, WORKER_MODE, LOCAL_MODE = 0, 1, 2

__all__ = [
    "LOCAL_MODE",
    "SCRIPT_MODE",
    "WORKER_MODE",
    "RayConnectionError",
    "RayGetError",
    "RayTaskError",
    "Worker",
    "global_worker",
]


class Worker:
    """This process as early programs look at it. The one instance is ``global_worker``, which always exists."""

    @property
    def connected(self) -> bool:
        """Whether there is a session."""
        return ray.is_initialized()

    @property
    def mode(self) -> int | None:
        """SCRIPT_MODE in a driver, WORKER_MODE, LOCAL_MODE, or None without a session."""
        if not ray.is_initialized():
            return None
        context = ray.get_runtime_context()
        return LOCAL_MODE if context.local_mode else WORKER_MODE if context.is_worker else SCRIPT_MODE

    @property
    def worker_id(self) -> bytes:
        """Id of this process.

        Raises:
            RayConnectionError: there is no session.
        """
        return bytes.fromhex(ray.get_runtime_context().worker_id)

    @property
    def node_ip_address(self) -> str:
        """As ``ray.util.get_node_ip_address()``.

        Raises:
            RayConnectionError: there is no session.
        """
        return get_node_ip_address()

    def check_connected(self) -> None:
        """Do nothing, or raise ``RayConnectionError`` without a session."""
        ray.get_runtime_context()


global_worker = Worker()


def __getattr__(name: str) -> Any:
    if name in ray.__all__:  # ``ray.worker.get`` and its like
        return getattr(ray, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{later_names.sentence(__name__, name)}")


def __dir__() -> list[str]:
    return sorted(__all__)
