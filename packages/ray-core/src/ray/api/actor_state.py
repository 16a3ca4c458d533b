"""What of an actor travels with its handles and its methods, and what it becomes where they arrive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ray.exceptions import RayConnectionError
from ray.runtime import interface
from ray.runtime.interface import ActorCore, MethodOptions

if TYPE_CHECKING:
    from ray.runtime.refs.ref import ObjectRef

#: What ``core_of`` takes.
ActorState: TypeAlias = "tuple[bytes, str, Mapping[str, MethodOptions], ObjectRef[Any] | None, int, bool]"


def state_of(core: ActorCore) -> ActorState:
    """What to pickle of an actor.

    Raises:
        RayConnectionError: it is of a session that has ended.
    """
    runtime = interface.current()
    if runtime is not None and core.life is not None and not runtime.knows(core.life):
        raise RayConnectionError(f"The handle of actor {core.class_name} belongs to a session that has ended.")
    methods = dict(core.methods)
    return core.actor_id, core.class_name, methods, core.life, core.max_task_retries, core.is_async


def core_of(
    actor_id: bytes,
    class_name: str,
    methods: Mapping[str, MethodOptions],
    life: ObjectRef[Any] | None,
    max_task_retries: int,
    is_async: bool,
) -> ActorCore:
    """The actor, as this process knows it.

    Raises:
        RayConnectionError: there is no session.
    """
    runtime = interface.current()
    if runtime is None:
        raise RayConnectionError(
            "An actor handle can only be unpickled while a session is open: call ray.init() first."
        )
    return runtime.adopt_actor(ActorCore(actor_id, class_name, methods, life, max_task_retries, is_async))
