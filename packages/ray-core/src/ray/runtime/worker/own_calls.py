"""An actor whose places are all taken by calls that wait for its own calls waits for ever."""

from __future__ import annotations

import sys
import threading
from _thread import get_ident
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ray.exceptions import BlockingCallError
from ray.ids import task_of
from ray.protocol.actor_entries import places_of
from ray.protocol.call_records import Callee
from ray.protocol.references import ObjectEntry
from ray.runtime.owner.records import TaskRecord
from ray.runtime.process.waiting import Waiter
from ray.runtime.worker.loop_waits import Awaits, LoopWaits, runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ray.protocol.references import ReferenceTable
    from ray.runtime.process.timers import Timers
    from ray.runtime.refs.session import Listener
    from ray.runtime.worker.actor_host import ActorHost
    from ray.runtime.worker.call import TaskCall
    from ray.runtime.worker.desk import Desk

#: How long a wait lasts before the polling thread looks, and then between two looks.
ASK_AFTER_S = 1.0

#: None stands for the call of ``__init__``.
Caller: TypeAlias = "TaskCall | None"


class OwnCalls:
    """Which calls of this actor wait without a limit, and which of them can never end."""

    def __init__(
        self,
        lock: Any,
        table: ReferenceTable,
        timers: Timers,
        callees: Mapping[bytes, Callee[TaskRecord]],
        desk: Desk,
        actor: ActorHost,
        unsubscribe: Callable[[Listener], bool],
    ) -> None:
        """Make one.

        Args:
            lock: of the process.
            table: its objects.
            timers: run under the lock.
            callees: {actor id: what this process has sent there}.
            desk: its calls.
            actor: what it is.
            unsubscribe: ends a listener, if it was not told yet.
        """
        self._lock = lock
        self._table = table
        self._timers = timers
        self._callees = callees
        self._desk = desk
        self._actor = actor
        self._unsubscribe = unsubscribe
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
        waits = self._waits
        call = None if self._actor.creating_thread else self._desk.this_call()
        around = waits.get(call)
        waits[call] = waiter
        try:
            while not wait(ASK_AFTER_S):
                with self._lock:
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
            with self._lock:
                self._due = True
                self._timers.after(ASK_AFTER_S, self._look)

    def _look(self) -> None:
        """Tell the last call that awaits what never comes; called under the lock by the thread that polls."""
        self._due = False
        if not self._table.listeners:
            return
        self.awaited()
        callee = self._callees.get(self._actor.id)
        if self._desk.queued or (callee is not None and callee.queue):
            loops = LoopWaits(self._table, self._actor.creating_thread, self._unsubscribe)
            stuck = self._stuck(loops)
            if stuck and stuck[-1] not in self._waits:
                loops.refuse(stuck[-1], self._error("await"))

    def _error(self, name: str) -> BlockingCallError:
        actor = self._actor
        return BlockingCallError(name, actor.name, self._desk.concurrent and not actor.creating_thread)

    def _runs_call(self) -> bool:
        """Whether this thread runs a call of the actor; the context of a call may be that of other threads too."""
        creating_thread = self._actor.creating_thread
        if not self._desk.concurrent or creating_thread:
            here = creating_thread or threading.main_thread().ident
            return bool(self._actor.id) and here == get_ident()
        call = self._desk.this_call()
        if call is None:
            return False
        return runs(sys._getframe(), call)

    def _stuck(self, loops: LoopWaits | None) -> list[Caller]:
        """The calls that never end, in the order in which they have begun; called under the lock."""
        running: list[Caller] = [None] if self._actor.creating_thread else list(self._desk.running.values())
        waits: dict[Caller, Waiter | Awaits] = {call: self._waits[call] for call in running if call in self._waits}
        if len(waits) < len(running):
            loops = loops or LoopWaits(self._table, self._actor.creating_thread, self._unsubscribe)
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
            never = _Never(self._desk, self._actor.id, stuck, dead, self._lane)
            left = {call for call in stuck if _lasts(waits[call], never)}
            if left == stuck:
                break
            stuck = left
        return [call for call in running if call in stuck]

    def _lane(self, group: str | None) -> str | None:
        return group if group in self._actor.groups else None

    def _places(self, lane: str | None) -> int:
        actor = self._actor
        if actor.creating_thread or not self._desk.concurrent or actor.started_as is None:
            return 1
        return places_of(actor.started_as.spec) if lane is None else actor.groups[lane]


class _Never:
    """Whether an object never comes if the ``stuck`` calls never end, and nothing begins in the ``dead`` lanes."""

    def __init__(
        self,
        desk: Desk,
        actor_id: bytes,
        stuck: set[Caller],
        dead: set[str | None],
        lane: Callable[[str | None], str | None],
    ) -> None:
        self._desk = desk
        self._actor_id = actor_id
        self._stuck = stuck
        self._dead = dead
        self._lane = lane
        #: No call begins before ``__init__`` has ended.
        self._none_begins = None in stuck

    def __call__(self, entry: ObjectEntry) -> bool:
        desk, task = self._desk, task_of(entry.id)
        call = desk.running.get(task)
        if call is not None:
            return call in self._stuck
        call = desk.queued.get(task)
        if call is not None:
            return self._none_begins or self._lane(call.group) in self._dead
        record = entry.task
        if type(record) is not TaskRecord or type(record.place) is not Callee:
            return False
        callee = record.place
        if callee.actor_id != self._actor_id or record.id in callee.inflight:  # then it, or its reply, is on its way
            return False
        return self._none_begins or self._lane(record.group) in self._dead


def _lasts(wait: Waiter | Awaits, never: Callable[[ObjectEntry], bool]) -> bool:
    """Whether too little would be left of what is waited for."""
    if isinstance(wait, Awaits):
        return wait.last(never)
    pending = [entry for entry in wait.entries if not entry.status]
    lost = sum(map(never, pending))
    return bool(lost) and wait.needed > len(pending) - lost
