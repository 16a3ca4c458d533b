"""Failures of an owner's tasks: made into envelopes, recorded for ``error_info``, printed once in the background."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.clock import monotonic, wall_time
from ray.exceptions import (
    ActorUnschedulableError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    TaskCancelledError,
    WorkerCrashedError,
    exit_text,
)
from ray.ids import task_of
from ray.messages import node, wire
from ray.protocol.actors import FREE_RESTARTS, MAX_RESTART_DELAY_S
from ray.protocol.references import ObjectEntry
from ray.runtime.owner.records import TaskRecord
from ray.runtime.process.telling import write
from ray.serialization import (
    ORDERLY,
    SYSTEM,
    Envelope,
    failed_start_envelope,
    make_envelope,
    read_any_envelope,
    read_envelope,
    same_for,
)

if TYPE_CHECKING:
    from ray.protocol.call_records import Callee
    from ray.runtime.owner.here import Here
    from ray.runtime.process.timers import Timers
    from ray.serialization.blob import Blob

#: A failure is printed about this long after it happened, unless ``get`` has raised it by then; together with those
#: that are at least half as old.
PRINT_AFTER_S = 0.25
#: The end of that time: a thread that asks for failures which were taken in one long turn gets to say so in it.
ASKING_S = 0.05
#: Reports that wait to be printed at a time; beyond it they are only recorded.
MAX_WAITING = 1000
#: What dies and is run again is told of after so many deaths, and each time that their number has doubled.
TOLD_DEATHS = 4
#: Different failures printed at a time.
MAX_PRINTED = 20


class Reports:
    """Methods are called under the runtime's lock, except ``retrieved``."""

    def __init__(
        self,
        here: Here,
        timers: Timers,
        tell_node: Callable[[wire.Struct], None],
        show: Callable[[str], None],
    ) -> None:
        """Make one.

        Args:
            here: this process.
            timers: the runtime's.
            tell_node: sends a message to the node manager.
            show: brings a failure that nobody has asked for before the user's eyes.
        """
        self._here = here
        self._timers = timers
        self._tell_node = tell_node
        self._show = show
        #: {id of a task, or of an actor: (text to print, monotonic time of the failure)}, oldest first
        self._waiting: dict[bytes, tuple[str, float]] = {}
        self._armed = False
        #: What was said last of a dead actor, and the envelope: thousands of calls may have the same fate.
        self._told: tuple[Any, bytes] = (None, b"")

    # --- envelopes ---------------------------------------------------------------------------------------------------

    def envelope(
        self, error: RayError, name: str, task_id: bytes, attempt: int, pid: int = 0, kind: str = SYSTEM
    ) -> bytes:
        """An error of the system as bytes."""
        return make_envelope(
            error,
            function=name,
            task_id=task_id,
            attempt=attempt,
            pid=pid or os.getpid(),
            node=self._here.node_id,
            kind=kind,
        )

    def crashed(self, record: TaskRecord, cause: node.ExitCause) -> bytes:
        """The worker died."""
        if record.cancelled:
            return self.cancelled(record)
        tail = "\n".join(cause.stderr)
        error: RayError
        if cause.oom:
            error = OutOfMemoryError(record.name, cause.pid, stderr_tail=tail)
        else:
            reason = cause.reason
            if record.attempt:
                reason = f"{reason}; " * bool(reason) + f"it was run {record.attempt + 1} times"
            if cause.node:
                error = NodeDiedError(cause.node, reason)
            else:
                error = WorkerCrashedError(record.name, cause.pid, cause.exit_code, cause.signal, reason, tail)
        return self.envelope(error, record.name, record.id, record.attempt, cause.pid)

    def cancelled(self, record: TaskRecord, doubt: str = "") -> bytes:
        """``ray.cancel`` ended it."""
        return self.envelope(TaskCancelledError(record.name, record.id, doubt), record.name, record.id, record.attempt)

    def actor_dead(
        self,
        record: TaskRecord,
        callee: Callee[TaskRecord],
        fate: str,
        cause: node.ExitCause | None,
        error: bytes,
        *,
        restarts: bool,
        lives: bool,
    ) -> bytes:
        """The actor is dead, or its process was and is replaced, or only the connection to it is lost."""
        if record.cancelled:
            return self.cancelled(record)
        self._waiting.pop(callee.actor_id, None)  # the call tells it
        cause = cause or node.ExitCause()
        told = (callee.actor_id, record.method, fate, restarts, lives, cause, error)
        if told != self._told[0]:
            self._told = told, self._actor_error(*told, callee.class_name)
        return same_for(self._told[1], function=record.name, task_id=record.id, attempt=record.attempt)

    def _actor_error(
        self,
        actor_id: bytes,
        method: bytes,
        fate: str,
        restarts: bool,
        lives: bool,
        cause: node.ExitCause,
        error: bytes,
        class_name: str,
    ) -> bytes:
        facts: dict[str, Any] = {
            "actor_class": class_name,
            "actor_id": actor_id,
            "reason": _reason_of(cause),
            "method": method.decode(),
            "fate": fate,
            "restarts": restarts,
            "lives": lives,
            "pid": cause.pid,
            "exit_code": cause.exit_code,
            "signal": cause.signal,
            "restarted": cause.restarts,
            "stderr_tail": "\n".join(cause.stderr),
        }
        if error:
            return failed_start_envelope(facts, error, node=self._here.node_id)
        if cause.unplaced:
            unplaced = ActorUnschedulableError(class_name, actor_id, cause.reason)
            return self.envelope(unplaced, "", b"", 0)
        return self.envelope(RayActorError(**facts), "", b"", 0, cause.pid)

    # --- reports -----------------------------------------------------------------------------------------------------

    def note(self, record: TaskRecord, envelope: Blob, cause: ObjectEntry | None = None) -> None:
        """A task has failed: record it, and print it soon unless the program gets it.

        Args:
            record: of the task.
            envelope: the failure.
            cause: the argument that has failed, where that is why: what is said of the task says it of both.
        """
        opened = read_envelope(envelope)
        if opened.kind == ORDERLY or opened.cause_type.endswith("TaskCancelledError"):
            return
        text = _text_of(record.name, opened)
        kind = "worker_died" if opened.cause_type.partition("(")[0].rpartition(".")[2] in _DEATHS else "task"
        row = node.ErrorRecord(kind, text, wall_time(), record.id.hex(), record.actor.hex(), opened.pid, record.name)
        self._tell_node(node.RecordError(row))
        passed_on = None if cause is None else self._waiting.pop(task_of(cause.id), None)
        if hasattr(record, "asked"):
            return  # a ``get`` has raised another failure instead; the refs may be gone since
        if not record.entries:
            self._show(failed(text))
        elif len(self._waiting) < MAX_WAITING:
            self._waiting[record.id] = passed_on or (text, monotonic())
            self._arm()

    def passed_on(self, cause: ObjectEntry, actor_id: bytes) -> None:
        """An argument of an actor's ``__init__`` has failed, and the actor with it: its calls, or its end, tell it."""
        waiting = self._waiting.pop(task_of(cause.id), None)
        if waiting is not None:
            self._waiting[actor_id] = waiting

    def note_start(self, callee: Callee[TaskRecord], envelope: bytes, *, asked: bool) -> None:
        """The ``__init__`` of an actor of this process has failed.

        Args:
            callee: the actor.
            envelope: the failure.
            asked: calls wait for the actor: they fail with it, and tell the program.
        """
        opened = read_any_envelope(envelope)
        name = f"{callee.class_name}.__init__"
        text = _text_of(name, opened)
        row = node.ErrorRecord("task", text, wall_time(), opened.task_id.hex(), callee.actor_id.hex(), opened.pid, name)
        self._tell_node(node.RecordError(row))
        if not asked and len(self._waiting) < MAX_WAITING:
            self._waiting.setdefault(callee.actor_id, (text, monotonic()))
            self._arm()

    def dies_again(self, record: TaskRecord, cause: node.ExitCause) -> None:
        """The worker died, and the task is about to run once more."""
        record.crash = self._note_deaths(record.name, record.attempt, cause, "run again", task=record.id)

    def restarts(self, callee: Callee[TaskRecord], update: node.ActorUpdate) -> None:
        """The actor's process died, and another one takes its place."""
        cause = update.cause
        if cause is not None and (cause.exit_code is not None or cause.signal is not None):  # else it was meant to
            deaths = update.incarnation
            callee.crash = self._note_deaths(
                callee.class_name, deaths, cause, "started again", actor=callee.actor_id, quiet=not callee.created_here
            )

    def _note_deaths(
        self,
        name: str,
        deaths: int,
        cause: node.ExitCause,
        again: str,
        *,
        task: bytes = b"",
        actor: bytes = b"",
        quiet: bool = False,
    ) -> str:
        """Say what dies again and again, ever more rarely; returns a sentence without its end."""
        times = f"died {deaths} times (the last time: " if deaths > 1 else "died ("
        text = (
            f"it is {again}, as its process has {times}{_reason_of(cause) or exit_text(cause.exit_code, cause.signal)})"
        )
        if actor and deaths > FREE_RESTARTS:
            text += f"; that waits on purpose, longer each time, at most {MAX_RESTART_DELAY_S:g} s"
        if not quiet and deaths >= TOLD_DEATHS and not deaths & (deaths - 1):
            whole = f"{name}: {text}"
            row = node.ErrorRecord("worker_died", whole, wall_time(), task.hex(), actor.hex(), cause.pid, name)
            self._tell_node(node.RecordError(row))
            self._show(whole)
        return text

    def retrieved(self, entry: ObjectEntry) -> None:
        """The failure was raised to the user: no need to print it. With or without the lock."""
        self._waiting.pop(task_of(entry.id), None)

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._timers.after(PRINT_AFTER_S - ASKING_S, self._let_ask)

    def _let_ask(self) -> None:
        """The thread that runs this may be the one that asks, and have taken thousands of failures in this turn."""
        self._timers.after(ASKING_S, self._print)

    def _print(self, share: float = 0.5) -> None:
        """Print what has waited for that share of the time; the rest has its turn later."""
        self._armed = False
        limit = monotonic() - PRINT_AFTER_S * share
        alike: Counter[str] = Counter()
        for id, (text, happened) in self._waiting.copy().items():
            if happened <= limit and self._waiting.pop(id, None) is not None:
                alike[text] += 1
        if self._waiting:
            self._arm()
        for text, count in list(alike.items())[:MAX_PRINTED]:
            self._show(failed(text if count == 1 else f"{text}\n(and {count - 1} more like it)"))
        if len(alike) > MAX_PRINTED:
            more = f"(and {len(alike) - MAX_PRINTED} other failures; ray.error_info() lists the latest)"
            self._show(failed(more))

    def flush(self) -> None:
        """The session ends: print what waits."""
        self._print(share=0.0)


def _text_of(name: str, opened: Envelope) -> str:
    detail, summary = (opened.traceback or opened.message).rstrip(), opened.summary or opened.cause_type
    if detail.startswith(summary):  # there is no traceback, only the error itself
        return f"{name}: {detail}"
    return f"{summary} in {name}\n{detail}"


_DEATHS = frozenset({"WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "RayActorError"})


def failed(text: str) -> str:
    """What is said of a failure that nobody asked for."""
    return f"A task failed: {text}"


def print_failure(text: str) -> None:
    """Write a failure to this process's stderr."""
    write(f"[ray] {failed(text)}\n")


def _reason_of(cause: node.ExitCause) -> str:
    """Why a process has ended, for messages that would name no node otherwise."""
    return f"its node {cause.node} died: {cause.reason}" if cause.node else cause.reason
