"""Why an object is not made yet, where that is known: for want of what no node has, or as its task was cancelled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from ray.exceptions import GetTimeoutError
from ray.protocol.call_records import Callee
from ray.protocol.references import PENDING, ObjectEntry
from ray.protocol.task_records import SchedulingClass
from ray.runtime.owner.records import TaskRecord

#: Objects looked at: the tasks that make the pending ones, and what these wait for.
_MAX_LOOKED_AT = 1000
#: Names of tasks that an error shows.
_MAX_NAMES = 3


def timed_out(
    timeout_s: float | None, pending: Sequence[ObjectEntry], total: int, trouble: Callable[[], str]
) -> GetTimeoutError:
    """The error of a caller that has waited for ``pending``, some of ``total`` objects, in vain.

    Args:
        timeout_s: how long.
        pending: the entries of those that are not ready.
        total: how many were waited for.
        trouble: says what else keeps this process from going on, or nothing.
    """
    cancelled = [record for entry in islice(pending, _MAX_LOOKED_AT) if (record := _cancelled_behind(entry))]
    names = _names_of(pending)
    tasks, others = names[:_MAX_NAMES], len(names) - len(names[:_MAX_NAMES])
    if not cancelled:
        reason = why_pending(pending) or trouble()
        return GetTimeoutError(timeout_s, len(pending), total, reason, 0, tasks, others)
    first = cancelled[0]
    subject = f"The call {first.name}" if first.actor else f"The task {first.name}"
    how = (
        "ray.kill(actor) ends its actor, with all calls"
        if first.actor
        else "ray.cancel(ref, force=True) ends its process"
    )
    reason = f"{subject} was cancelled and has not ended yet: it cleans up, or cannot be interrupted. {how}."
    return GetTimeoutError(timeout_s, len(pending), total, reason, len(cancelled), tasks, others)


def _names_of(pending: Sequence[ObjectEntry]) -> list[str]:
    """Of the tasks that make objects, as far as they are this process's; each once."""
    tasks = [entry.task for entry in islice(pending, _MAX_LOOKED_AT)]
    return list(dict.fromkeys(task.name for task in tasks if type(task) is TaskRecord))


def _cancelled_behind(entry: ObjectEntry) -> TaskRecord | None:
    """The task that makes a pending object, or one whose result this takes, if it was cancelled and has not ended."""
    own = entry.task
    if entry.status != PENDING or type(own) is not TaskRecord:
        return None
    records = [own, *(argument.task for _, argument in own.deps if argument.status == PENDING)]
    return next((record for record in records if type(record) is TaskRecord and record.cancelled), None)


def why_pending(entries: Iterable[ObjectEntry]) -> str:
    """A sentence on the first task, or actor, among those behind pending objects that cannot be placed; else empty."""
    waiting = list(entries)[::-1]
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_LOOKED_AT:
        entry = waiting.pop()
        record = entry.task
        if entry.status != PENDING or id(entry) in seen or type(record) is not TaskRecord:
            continue
        seen.add(id(entry))
        waiting += [argument for _, argument in record.deps]
        place = record.place
        subject = f"The actor {place.class_name}" if isinstance(place, Callee) else f"The task {record.name}"
        lack = place.lack if isinstance(place, (SchedulingClass, Callee)) else ""
        if lack:
            return f"{subject} {lack}."
        crash = place.crash if isinstance(place, Callee) else getattr(record, "crash", "")
        if crash:
            return f"{subject}: {crash}."
    return ""
