"""The order in which the calls of one process to one actor start: that in which they were submitted."""

from __future__ import annotations

from collections import deque
from operator import attrgetter

from ray.protocol.call_records import Callee, T

_submitted = attrgetter("id")


def put_in_order(callee: Callee[T]) -> None:
    """Have calls that came back, in whatever order and in however many messages, start as they were submitted.

    A call that interrupts this may add some, and send some: the queue is replaced in one step, if it is still the same.
    """
    while True:
        before = callee.queue.copy()
        ordered = deque(sorted(before, key=_submitted))
        if callee.queue == before:
            callee.queue = ordered
            return
