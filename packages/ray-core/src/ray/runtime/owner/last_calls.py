"""Calls that end their actor: each waits at its caller until those before it have ended."""

from __future__ import annotations

from collections.abc import Mapping

from ray.runtime.owner.records import TaskRecord

#: The method of every actor that ends it, and as messages have it.
TERMINATE = "__ray_terminate__"
TERMINATE_BYTES = TERMINATE.encode()


def ends_next(record: TaskRecord, inflight: Mapping[bytes, TaskRecord]) -> bool:
    """Whether a call that waits is one that ends the actor, and all calls before it have ended.

    It does not wait for the call that has made it, nor for those that have made that.
    """
    if record.method != TERMINATE_BYTES:
        return False
    makers: set[bytes] = set()
    parent = record.parent
    while parent is not None and parent in inflight and parent not in makers:
        makers.add(parent)
        parent = inflight[parent].parent
    if any(not before.done and before.id not in makers for before in inflight.values()):
        return False
    record.waiting = 0
    return True
