"""An actor whose places are all taken by calls that wait for its own calls waits for ever."""

from __future__ import annotations

import sys
import threading
from _thread import get_ident
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ray.exceptions import BlockingCallError
from ray.ids import task_of
from ray.protocol.actors import places_of
from ray.protocol.references import ObjectEntry
from ray.runtime.owner.actor_client import ActorClient
from ray.runtime.owner.records import TaskRecord
from ray.runtime.process.waiting import Waiter
from ray.runtime.worker.loop_waits import Awaits, LoopWaits, runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ray.messages import node
    from ray.protocol.references import ReferenceTable
    from ray.runtime.owner.actor_calls import ActorCalls
    from ray.runtime.process.timers import Timers
    from ray.runtime.refs.session import Listener
    from ray.runtime.worker.call import TaskCall
    from ray.runtime.worker.desk import Desk

#: How long a wait lasts before somebody asks, and then between two looks.
ASK_AFTER_S = 1.0

#: None stands for the call of ``__init__``.
Caller: TypeAlias = "TaskCall | None"


class Worker(Protocol):
    """The process of an actor."""

    actor_id: bytes
    actor_name: str
    #: {concurrency group: how many of its calls run at a time}
    groups: Mapping[str, int]
    #: The thread that runs ``__init__``, or 0.
    creating_thread: int
    #: What made the process an actor.
    started_as: node.StartActor | None
    desk: Desk
    lock: Any
    table: ReferenceTable
    timers: Timers
    calls: ActorCalls

    @property
    def unsubscribe(self) -> Callable[[Listener], bool]: ...


class OwnCalls:
    """Which calls of this actor wait without a limit, and which of them can never end."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        #: {call: what its thread waits for}
        self._waits: dict[Caller, Waiter] = {}
        #: A look at what loops await is due.
        self._due = False

    def wait(self, waiter: Waiter, wait: Callable[[float | None], bool], name: str) -> bool:
        """Wait by ``wait``, which takes seconds, for as long as it takes.

        Raises:
            BlockingCallError: the wait would last for ever. ``name`` is what the user has called.
        """
        if not self._runs_call():
            return wait(None)
        worker, waits = self._worker, self._waits
        call = None if worker.creating_thread else worker.desk.this_call()
        around = waits.get(call)
        waits[call] = waiter
        try:
            while not wait(ASK_AFTER_S):
                with worker.lock:
                    stuck = self._stuck(None)
                    if stuck and stuck[-1] is call:
                        raise self._error(name)
            return True
        finally:
            if around is None:
                del waits[call]
            else:
                waits[call] = around

    def awaited(self) -> None:
        """A loop has begun to await an object of this actor's process."""
        if not self._due:
            with self._worker.lock:
                self._due = True
                self._worker.timers.after(ASK_AFTER_S, self._look)

    def _look(self) -> None:
        """Tell the last call that awaits what never comes; called under the lock by the thread that polls."""
        worker = self._worker
        self._due = False
        if not worker.table.listeners:
            return
        self.awaited()
        client = worker.calls.clients.get(worker.actor_id)
        if worker.desk.queued or (client is not None and client.queue):
            loops = LoopWaits(worker.table, worker.creating_thread, worker.unsubscribe)
            stuck = self._stuck(loops)
            if stuck and stuck[-1] not in self._waits:
                loops.refuse(stuck[-1], self._error("await"))

    def _error(self, name: str) -> BlockingCallError:
        worker = self._worker
        return BlockingCallError(name, worker.actor_name, worker.desk.concurrent and not worker.creating_thread)

    def _runs_call(self) -> bool:
        """Whether this thread runs a call of the actor; the context of a call may be that of other threads too."""
        worker = self._worker
        if not worker.desk.concurrent or worker.creating_thread:
            here = worker.creating_thread or threading.main_thread().ident
            return bool(worker.actor_id) and here == get_ident()
        call = worker.desk.this_call()
        if call is None:
            return False
        return runs(sys._getframe(), call)

    def _stuck(self, loops: LoopWaits | None) -> list[Caller]:
        """The calls that never end, in the order in which they have begun; called under the lock."""
        worker = self._worker
        running: list[Caller] = [None] if worker.creating_thread else list(worker.desk.running.values())
        waits: dict[Caller, Waiter | Awaits] = {call: self._waits[call] for call in running if call in self._waits}
        if len(waits) < len(running):
            loops = loops or LoopWaits(worker.table, worker.creating_thread, worker.unsubscribe)
            for call in running:
                awaits = None if call in waits else loops.of(call)
                if awaits is not None:
                    waits[call] = awaits
        lanes: dict[str | None, list[Caller]] = {}
        for call in running:
            lanes.setdefault(self._lane(call.group if call is not None else None), []).append(call)
        stuck = set(waits)
        while stuck:
            dead = {
                lane for lane, calls in lanes.items() if len(calls) >= self._places(lane) and stuck.issuperset(calls)
            }
            never = _Never(worker, stuck, dead, self._lane)
            left = {call for call in stuck if _lasts(waits[call], never)}
            if left == stuck:
                break
            stuck = left
        return [call for call in running if call in stuck]

    def _lane(self, group: str | None) -> str | None:
        return group if group in self._worker.groups else None

    def _places(self, lane: str | None) -> int:
        worker = self._worker
        if worker.creating_thread or not worker.desk.concurrent or worker.started_as is None:
            return 1
        return places_of(worker.started_as.spec) if lane is None else worker.groups[lane]


class _Never:
    """Whether an object never comes if the ``stuck`` calls never end, and nothing begins in the ``dead`` lanes."""

    def __init__(
        self,
        worker: Worker,
        stuck: set[Caller],
        dead: set[str | None],
        lane: Callable[[str | None], str | None],
    ) -> None:
        self._worker = worker
        self._stuck = stuck
        self._dead = dead
        self._lane = lane
        #: No call begins before ``__init__`` has ended.
        self._none_begins = None in stuck

    def __call__(self, entry: ObjectEntry) -> bool:
        worker, task = self._worker, task_of(entry.id)
        call = worker.desk.running.get(task)
        if call is not None:
            return call in self._stuck
        call = worker.desk.queued.get(task)
        if call is not None:
            return self._none_begins or self._lane(call.group) in self._dead
        record = entry.task
        if type(record) is not TaskRecord or type(record.place) is not ActorClient:
            return False
        client = record.place
        if client.actor_id != worker.actor_id or record.id in client.inflight:  # then it, or its reply, is on its way
            return False
        return self._none_begins or self._lane(record.group) in self._dead


def _lasts(wait: Waiter | Awaits, never: Callable[[ObjectEntry], bool]) -> bool:
    """Whether too little would be left of what is waited for."""
    if isinstance(wait, Awaits):
        return wait.last(never)
    pending = [entry for entry in wait.entries if not entry.status]
    lost = sum(map(never, pending))
    return bool(lost) and wait.needed > len(pending) - lost
