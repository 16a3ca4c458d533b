"""What the caller of a call that has failed is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ray.exceptions import RayActorError, RayError, TaskCancelledError, TaskTimeoutError
from ray.exceptions.base import add_note, is_a
from ray.messages import wire
from ray.runtime.worker.actor_exit import Exit, exit_of
from ray.runtime.worker.outcome import Outcome
from ray.runtime.worker.raised import forget_frames, wants_retry
from ray.runtime.worker.storing import is_of_result
from ray.serialization import ORDERLY, make_envelope

if TYPE_CHECKING:
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.reports import Reports
    from ray.runtime.owner.values import Values
    from ray.runtime.worker.actor_host import ActorHost
    from ray.runtime.worker.call import TaskCall
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.life import Life
    from ray.runtime.worker.process_end import ProcessEnd


class Failing:
    """Makes failures of what the user's code, or the call around it, has raised."""

    def __init__(
        self,
        here: Here,
        desk: Desk,
        actor: ActorHost,
        life: Life,
        values: Values,
        reports: Reports,
        ending: ProcessEnd,
        name_of: Callable[[wire.Task], str],
    ) -> None:
        """Make one.

        Args:
            here: this process.
            desk: the calls of the process.
            actor: what the process is.
            life: whether it goes on.
            values: what is stored.
            reports: makes envelopes.
            ending: of the process.
            name_of: what messages call a task.
        """
        self._here = here
        self._desk = desk
        self._actor = actor
        self._life = life
        self._values = values
        self._reports = reports
        self._ending = ending
        self._name_of = name_of

    def outcome_of(self, call: TaskCall, error: BaseException) -> Outcome:
        """What a call came to that has raised."""
        try:
            return self._failure(call, error)
        except Exception:  # of code of the user's that belongs to the error: a call always answers
            task = call.task
            envelope = make_envelope(
                error,
                function=call.name or self._name_of(task),
                task_id=task.id,
                attempt=task.attempt,
                pid=os.getpid(),
                node=self._here.node_id,
            )
            return Outcome(False, [envelope])

    def _failure(self, call: TaskCall, error: BaseException) -> Outcome:
        task = call.task
        if task.actor:
            left = exit_of(error)
            if left is not None and not (call.cancelled or call.timed_out):
                return self._leave(call, left)
        kind, name = "user", call.name or self._name_of(task)
        if call.cancelled:
            error, kind = TaskCancelledError(name, task.id), "system"
        elif call.timed_out:
            error = TaskTimeoutError(name, task.timeout_s, call.abandoned and self._desk.concurrent)
            kind = "system"
        elif self._life.exiting and type(error).__name__ == "CancelledError":
            error, kind = self._actor_ends(task, self._life.exiting, "was interrupted"), "system"
        elif is_a(error, RayError) and is_of_result(error, self._values):
            add_note(error, f"raised for a result of task {name} (pid={os.getpid()})")
            kind = "system"
        envelope = make_envelope(
            error,
            function=name,
            task_id=task.id,
            attempt=task.attempt,
            pid=os.getpid(),
            node=self._here.node_id,
            kind=kind,
        )
        retry = bool(task.retry) and not call.cancelled and wants_retry(error, task.retry)
        forget_frames(error)
        return Outcome(False, [envelope], retry=retry)

    def _actor_ends(self, task: wire.Task, reason: str, fate: str, exit_code: int | None = None) -> RayActorError:
        """What became of a call as its actor ends."""
        return RayActorError(
            self._actor.name,
            self._actor.id,
            reason,
            method=task.function.decode(errors="replace"),
            fate=fate,
            pid=os.getpid(),
            exit_code=exit_code,
        )

    def _leave(self, call: TaskCall, left: Exit) -> Outcome:
        """The method ends its actor."""
        task = call.task
        if left.code:
            self._ending.run(left.code, left.reason, task.id)
        self._actor.announce_exit(left.reason)
        self._ending.interrupt_others(call)
        error = self._actor_ends(task, left.reason, "ended it", 0)
        return Outcome(False, [self._reports.envelope(error, call.name, task.id, task.attempt, kind=ORDERLY)])
