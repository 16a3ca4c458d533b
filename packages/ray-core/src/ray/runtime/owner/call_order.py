"""The order in which the calls of one process to one actor start: that in which they were submitted."""

from __future__ import annotations

from collections import deque
from operator import attrgetter

from ray.runtime.owner.records import TaskRecord

#: Ids of one process count up: of calls of which one was submitted after the other, the later has the higher one.
_submitted = attrgetter("id")


def put_in_order(queue: deque[TaskRecord]) -> None:
    """Have calls that came back, in whatever order and in however many messages, start as they were submitted.

    A call that interrupts this may add some, which are later ones, or clear the queue.
    """
    for index, record in enumerate(sorted(queue, key=_submitted)):
        if index >= len(queue):
            break
        queue[index] = record
