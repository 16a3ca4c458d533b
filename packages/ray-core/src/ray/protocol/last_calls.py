"""Calls that end their actor: each waits at its caller until those before it have ended."""

from __future__ import annotations

from collections.abc import Mapping

from ray.protocol.call_records import T

#: The method of every actor that ends it, and as messages have it.
TERMINATE = "__ray_terminate__"
TERMINATE_BYTES = TERMINATE.encode()


def ends_next(call: T, inflight: Mapping[bytes, T]) -> bool:
    """Whether a call that waits is one that ends the actor, and all calls before it have ended.

    It does not wait for the call that has made it, nor for those that have made that.
    """
    if call.method != TERMINATE_BYTES:
        return False
    makers: set[bytes] = set()
    parent = call.parent
    while parent is not None and parent in inflight and parent not in makers:
        makers.add(parent)
        parent = inflight[parent].parent
    if any(not before.done and before.id not in makers for before in list(inflight.values())):
        return False
    call.waiting = 0
    return True
