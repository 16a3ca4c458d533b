"""Why an object is not made, where it is for want of what no node has."""

from __future__ import annotations

from collections.abc import Iterable

from ray.protocol.references import PENDING, ObjectEntry
from ray.runtime.calls import ActorClient
from ray.runtime.records import SchedulingClass, TaskRecord

#: Objects looked at: the tasks that make the pending ones, and what these wait for.
_MAX_LOOKED_AT = 1000


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
        link = record.link
        lack = link.lack if isinstance(link, (SchedulingClass, ActorClient)) else ""
        if lack:
            who = f"The actor {link.class_name}" if isinstance(link, ActorClient) else f"The task {record.name}"
            return f"{who} {lack}."
    return ""
