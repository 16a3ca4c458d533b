"""An actor that runs nothing else meanwhile, and waits for a call of its own, waits for ever."""

from __future__ import annotations

import threading
from _thread import get_ident
from typing import TYPE_CHECKING

from ray.ids import task_of
from ray.protocol.references import ObjectEntry
from ray.runtime.owner.actor_client import ActorClient
from ray.runtime.owner.records import TaskRecord
from ray.runtime.process.waiting import Waiter

if TYPE_CHECKING:
    from ray.runtime.worker.worker import WorkerRuntime

#: How long a wait lasts before somebody asks.
ASK_AFTER_S = 1.0


def may_wait_for_itself(worker: WorkerRuntime) -> bool:
    """Whether this thread runs what has to end before any call of the actor begins."""
    if worker.concurrent:
        return worker.creating_thread == get_ident()
    return bool(worker.actor_id) and threading.current_thread() is threading.main_thread()


def waits_for_itself(worker: WorkerRuntime, waiter: Waiter) -> bool:
    """Whether too few objects would be left if no call of this actor began; called under the lock."""
    pending = [entry for entry in waiter.entries if not entry.status]
    hopeless = [entry for entry in pending if _is_own_call(worker, entry)]
    return bool(hopeless) and waiter.needed > len(pending) - len(hopeless)


def _is_own_call(worker: WorkerRuntime, entry: ObjectEntry) -> bool:
    """Submitted here, or by another process and received here; this call itself is one as well."""
    record = entry.task
    if type(record) is TaskRecord and type(record.link) is ActorClient and record.link.actor_id == worker.actor_id:
        return True
    task = task_of(entry.id)
    return task in worker.queued or task in worker.running
