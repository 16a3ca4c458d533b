"""Identifiers: fixed-width byte strings, made without coordination.

A task id is 16 bytes: 8 random bytes of the process that made it and a counter. An object id is a task id
and a 4-byte big-endian return index. ``put`` takes task ids of its own, so both share one space.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

TASK_ID_BYTES = 16
OBJECT_ID_BYTES = 20
PROCESS_ID_BYTES = 8
NIL_OBJECT_ID = b"\xff" * OBJECT_ID_BYTES
FIRST_RETURN = b"\x00\x00\x00\x00"


def make_task_ids(process_id: bytes | None = None) -> Callable[[], bytes]:
    """Return a function that yields a new task id at each call; safe from any thread."""
    prefix = process_id or os.urandom(PROCESS_ID_BYTES)
    count = itertools.count(1).__next__

    def next_task_id() -> bytes:
        return prefix + count().to_bytes(8, "big")

    return next_task_id


def object_id(task_id: bytes, index: int = 0) -> bytes:
    """The id of a task's return number ``index``."""
    return task_id + index.to_bytes(4, "big")


def task_of(object_id: bytes) -> bytes:
    """The id of the task (or put) that makes this object."""
    return object_id[:TASK_ID_BYTES]


def random_id(nbytes: int = TASK_ID_BYTES) -> bytes:
    """``nbytes`` of operating-system randomness, for processes, sessions, leases and actors."""
    return os.urandom(nbytes)
