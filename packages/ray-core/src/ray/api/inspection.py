"""Questions about the session: errors, nodes, resources, and where this code runs."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from typing import Any

from ray.api.objects import running


@dataclass(frozen=True, slots=True)
class RuntimeContext:
    """Where this code runs. Ids are hexadecimal; None is "not in a task" or "not in an actor"."""

    session_id: str
    job_id: str
    node_id: str
    worker_id: str
    task_id: str | None
    actor_id: str | None
    attempt: int
    """0 for the first run of the task, one more for each retry."""
    namespace: str
    gpu_ids: list[int | str]
    """As ``get_gpu_ids``."""
    resources: dict[str, float]
    """What the running task or actor holds."""
    is_worker: bool
    local_mode: bool


def get_runtime_context() -> RuntimeContext:
    """Where this code runs: session, node, process, task, actor and attempt.

    Raises:
        RayConnectionError: there is no session.
    """
    runtime = running()
    facts = runtime.context()
    return RuntimeContext(
        session_id=runtime.session_id,
        job_id=_hex(facts.get("job_id")) or "",
        node_id=_hex(facts.get("node_id")) or "",
        worker_id=_hex(facts.get("worker_id")) or "",
        task_id=_hex(facts.get("task_id")),
        actor_id=_hex(facts.get("actor_id")),
        attempt=facts.get("attempt", 0),
        namespace=facts.get("namespace", ""),
        gpu_ids=_gpus(facts),
        resources=dict(facts.get("resources") or {}),
        is_worker=runtime.is_worker,
        local_mode=runtime.is_local_mode,
    )


def get_gpu_ids() -> list[int | str]:
    """The GPUs of the running task or actor, as ``CUDA_VISIBLE_DEVICES`` names them: numbers, or UUIDs as text.

    Raises:
        RayConnectionError: there is no session.
    """
    return _gpus(running().context())


def error_info() -> list[dict[str, Any]]:
    """The failures of this session so far, oldest first: dicts with ``type``, ``message``, ``timestamp`` and ids.

    Each has been printed in the background already; normally you need not ask.

    Raises:
        RayConnectionError: there is no session.
    """
    return running().errors()


def nodes() -> list[dict[str, Any]]:
    """The machines of the session, one dict each.

    Raises:
        RayConnectionError: there is no session.
    """
    return running().nodes()


def cluster_resources() -> dict[str, float]:
    """What the session has in all, by name; memory in bytes.

    Raises:
        RayConnectionError: there is no session.
    """
    return running().cluster_resources()


def available_resources() -> dict[str, float]:
    """What is free now, by name; memory in bytes.

    Raises:
        RayConnectionError: there is no session.
    """
    return running().available_resources()


def show_versions() -> None:
    """Print the versions that a report of a problem should name."""
    from importlib.metadata import PackageNotFoundError, version

    print(f"Python      {sys.version.split()[0]} ({platform.platform()})")
    for name in ("ray-core", "msgspec", "pluggy", "cloudpickle", "psutil", "numpy"):
        try:
            print(f"{name:<11} {version(name)}")
        except PackageNotFoundError:
            print(f"{name:<11} not installed")


def _hex(value: bytes | str | None) -> str | None:
    return value.hex() if isinstance(value, bytes) else value


def _gpus(facts: dict[str, Any]) -> list[int | str]:
    names = [str(name) for name in facts.get("gpu_ids") or ()]
    return [int(name) if name.isdigit() else name for name in names]
