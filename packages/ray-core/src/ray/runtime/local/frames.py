"""The tasks and calls that run in local mode, one inside the other."""

from __future__ import annotations

import contextvars
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.clock import wall_time
from ray.exceptions.base import is_a
from ray.protocol.resources import UNIT
from ray.runtime.async_functions import check_awaited
from ray.runtime.interface import STREAMING, ActorCore
from ray.runtime.returns import pack_returns
from ray.runtime.worker.actor_exit import Exit, exit_of

if TYPE_CHECKING:
    from ray.runtime.local.actors import LocalActor


@dataclass(slots=True)
class Frame:
    """A task or call that runs now."""

    task_id: bytes
    name: str
    resources: Mapping[str, int]
    actor: LocalActor | None = None
    #: The actor's, and how often it had restarted at the call.
    method: str = ""
    #: Keeps the actor until its call has ended.
    core: ActorCore | None = None
    restarts: int = 0
    attempt: int = 0
    outer: Frame | None = None
    num_returns: int = 1
    timeout_s: float | None = None
    #: How long this attempt has run.
    spent_s: float = 0.0
    retries: int = 0
    retry_on: bool | tuple[type[BaseException], ...] = False

    def packed(self, result: Any) -> Any:
        """A copy of each value that was returned, or the generator of them; nothing is left to a loop that is none."""
        check_awaited(self.name, result, of_actor=self.actor is not None)
        if self.num_returns == STREAMING:
            return result
        return [value.snapshot() for value in pack_returns(result, self.num_returns)]

    def check_actor(self) -> None:
        """Raise RayActorError if the instance that the call is for is gone."""
        actor = self.actor
        if actor is not None and (actor.reason is not None or actor.restarts != self.restarts):
            raise actor.death(actor.reason or "it has been restarted", self.method)

    def exit_of(self, error: BaseException) -> Exit | None:
        """The end of its actor that a method asks for by ``error``."""
        return exit_of(error) if self.actor is not None and self.actor.made else None

    def is_last(self, error: BaseException) -> bool:
        """Whether a task that failed so is not tried again."""
        retry = self.retry_on
        return self.attempt == self.retries or not is_a(error, retry or () if retry is not True else Exception)

    def record(self, message: str) -> dict[str, Any]:
        """The row of its failure in ``ray.error_info()``."""
        return {
            "type": "task",
            "message": message,
            "timestamp": wall_time(),
            "task_id": self.task_id.hex(),
            "actor_id": self.actor.actor_id.hex() if self.actor else "",
            "pid": os.getpid(),
            "function": self.name,
        }


def facts_of(frame: Frame | None) -> dict[str, Any]:
    """What ``Runtime.context`` says of the task or call that runs."""
    actor = None if frame is None else frame.actor
    held = {} if frame is None else frame.resources if actor is None else actor.options.resources
    return {
        "task_id": None if frame is None else frame.task_id,
        "task_name": None if frame is None else frame.name,
        "attempt": 0 if frame is None else frame.attempt,
        "actor_id": None if actor is None else actor.actor_id,
        "actor_name": None if actor is None else actor.options.name,
        "restarts": 0 if actor is None else actor.restarts,
        "gpu_ids": [str(index) for index in range(-(-held.get("GPU", 0) // UNIT))],
        "resources": {name: amount / UNIT for name, amount in held.items()},
    }


running: contextvars.ContextVar[Frame | None] = contextvars.ContextVar("ray_local_frame", default=None)
"""The innermost one."""
