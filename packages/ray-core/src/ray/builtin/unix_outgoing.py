"""What is queued for one socket of the Unix transport."""

from __future__ import annotations

from collections import deque
from typing import Any

#: The system takes so many pieces at a time.
MAX_PARTS = 512


def next_parts(queue: deque[list[Any]], done: int) -> list[Any]:
    """What follows the first ``done`` bytes of the stream.

    ``queue``: [where it ends on the stream, its parts, its bytes] of messages; others may add to it meanwhile.
    """
    out = queue.copy()
    found: list[Any] = []
    for end, parts, nbytes in out:
        start = end - nbytes
        if done <= start:
            if len(out) == 1 and len(parts) <= MAX_PARTS:
                return parts  # type: ignore[no-any-return]
            found += parts
        else:
            found += _unsent(parts, done - start)
        if len(found) >= MAX_PARTS:
            return found[:MAX_PARTS]
    return found


def _unsent(parts: list[Any], sent: int) -> list[Any]:
    for index, part in enumerate(parts):
        if sent < len(part):
            return [memoryview(part)[sent:], *parts[index + 1 :]]
        sent -= len(part)
    return []
