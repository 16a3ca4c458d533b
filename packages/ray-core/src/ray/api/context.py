"""Where this code runs: session, node, process, task and actor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray import later_names
from ray.api.actors import ActorHandle
from ray.runtime.interface import current_session


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
    task_name: str | None = None
    actor_name: str | None = None
    """None also for an actor that was given no name."""
    restarts: int = 0
    """How often this actor was restarted."""

    def get_job_id(self) -> str:
        """``job_id``."""
        return self.job_id

    def get_node_id(self) -> str:
        """``node_id``."""
        return self.node_id

    def get_worker_id(self) -> str:
        """``worker_id``."""
        return self.worker_id

    def get_task_id(self) -> str | None:
        """``task_id``."""
        return self.task_id

    def get_task_name(self) -> str | None:
        """``task_name``."""
        return self.task_name

    def get_task_function_name(self) -> str | None:
        """``task_name``."""
        return self.task_name

    def get_actor_id(self) -> str | None:
        """``actor_id``."""
        return self.actor_id

    def get_actor_name(self) -> str | None:
        """``actor_name``."""
        return self.actor_name

    def get_assigned_resources(self) -> dict[str, float]:
        """``resources``."""
        return self.resources

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """``gpu_ids`` as text, by the kind of accelerator."""
        return {"GPU": [str(each) for each in self.gpu_ids]}

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether this actor was restarted.

        Raises:
            RuntimeError: this is not an actor.
        """
        self._check_in_actor("was_current_actor_reconstructed")
        return self.restarts > 0

    @property
    def current_actor(self) -> ActorHandle[Any]:
        """A handle on this actor. An actor that keeps it does not end by itself when others let go.

        Raises:
            RuntimeError: this is not an actor.
            RayConnectionError: there is no session.
        """
        self._check_in_actor("current_actor")
        return ActorHandle(current_session().own_actor())

    def _check_in_actor(self, name: str) -> None:
        if self.actor_id is None:
            raise RuntimeError(f"get_runtime_context().{name} was asked for outside of an actor.")

    if not TYPE_CHECKING:  # checkers are to see a misspelt name

        def __getattr__(self, name: str) -> Any:
            instead = later_names.sentence("ray.get_runtime_context()", name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}.{instead}")


def get_runtime_context() -> RuntimeContext:
    """Where this code runs: session, node, process, task, actor and attempt.

    Raises:
        RayConnectionError: there is no session.
    """
    runtime = current_session()
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
        task_name=facts.get("task_name"),
        actor_name=facts.get("actor_name") or None,
        restarts=facts.get("restarts", 0),
    )


def get_gpu_ids() -> list[int | str]:
    """The GPUs of the running task or actor, as ``CUDA_VISIBLE_DEVICES`` names them: numbers, or UUIDs as text.

    Raises:
        RayConnectionError: there is no session.
    """
    return _gpus(current_session().context())


def _hex(value: bytes | str | None) -> str | None:
    return value.hex() if isinstance(value, bytes) else value


def _gpus(facts: dict[str, Any]) -> list[int | str]:
    names = [str(name) for name in facts.get("gpu_ids") or ()]
    return [int(name) if name.isdigit() else name for name in names]
