"""What a session leaves undone at its end."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ray.protocol.last_calls import TERMINATE_BYTES
from ray.runtime.owner.records import TaskRecord

if TYPE_CHECKING:
    from ray.runtime.owner.owner import OwnerRuntime


def unfinished_line(runtime: OwnerRuntime) -> str:
    """Says how many tasks and calls of this process have not finished; empty if all have. Called under the lock.

    Those count, too, whose refs were dropped: they were to run for what they do. Cancelled ones do not.
    """
    records = {record.id: record for record in _records(runtime) if not (record.done or record.cancelled)}
    # What asks an actor to end does not count: the end of the session does that as well.
    count = sum(record.method != TERMINATE_BYTES for record in records.values())
    if not count:
        return ""
    tasks = "1 task had not finished and was" if count == 1 else f"{count} tasks had not finished and were"
    return f"[ray] {tasks} stopped; ray.get what you need\n"


def _records(runtime: OwnerRuntime) -> Iterator[TaskRecord]:
    """Looks at copies: other threads make objects without the lock, and finalisers end calls in between."""
    yield from runtime.leasing.tasks.tasks()
    yield from runtime.calls.table.calls()
    for entry in list(runtime.table.entries.values()):
        if type(entry.task) is TaskRecord:
            yield entry.task
        for waiter in entry.waiters or ():  # a task that waits for an argument, and whose own ref was dropped
            if isinstance(waiter, functools.partial) and waiter.args and type(waiter.args[0]) is TaskRecord:
                yield waiter.args[0]
