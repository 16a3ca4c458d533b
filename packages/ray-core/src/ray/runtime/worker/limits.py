"""Calls of a worker that are to end before their time: by this process where it hears of it, else by a signal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from ray.clock import monotonic
from ray.messages import node, wire
from ray.protocol.run_slot import CANCELLED, TIMED_OUT, RunSlot
from ray.runtime.worker.process_end import end_process

if TYPE_CHECKING:
    from ray.abc.transport import Transport
    from ray.runtime.process.node_link import NodeLink
    from ray.runtime.process.timers import Timer, Timers
    from ray.runtime.worker.call import TaskCall
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.life import Life
    from ray.runtime.worker.process_end import ProcessEnd
    from ray.runtime.worker.replies import Replies
    from ray.runtime.worker.streams import Flusher

#: After a timed-out task was interrupted in vain, its process ends.
TIMEOUT_GRACE_S = 1.0


class Insists(Protocol):
    """Interrupts the code of a call, until it has noticed."""

    def insist(self, call: TaskCall) -> None: ...


class Worker(Protocol):
    """What runs the calls, and answers those that are given up."""

    desk: Desk
    life: Life
    lock: Any
    timers: Timers
    transport: Transport
    node: NodeLink
    output: Flusher
    ending: ProcessEnd
    replies: Replies

    @property
    def interrupting(self) -> Insists: ...


class Limits:
    """The time limits of a worker's calls, and what the node manager says about them in the worker's slot."""

    def __init__(self, worker: Worker, slot: RunSlot) -> None:
        self._worker = worker
        self._slot = slot
        #: When the node manager looks next whether a call is over its time.
        self._looked_at = 0.0
        #: {call with a limit that runs: the monotonic time by which it is to end}
        self._until: dict[TaskCall, float] = {}
        #: When this process looks next, and the timer for that: one for all, as most calls end long before.
        self._looks_at = math.inf
        self._timer: Timer | None = None

    def begin(self, call: TaskCall) -> None:
        """A call with a limit begins. Somebody else looks as well when it is over: this process may be too busy.

        The node manager looks at the one call that runs alone; of those that run beside others, their owners know.
        """
        worker = self._worker
        until = monotonic() + call.task.timeout_s
        if not worker.desk.concurrent:
            self._slot.begin_anew()  # it may have been told of an earlier attempt
            self._slot.deadline = until
            if not monotonic() < self._looked_at <= until:  # it looks then, and finds this
                self._looked_at = until
                worker.node.send(node.Limited(until))
        else:
            with worker.lock:
                call.peer.send(wire.Began(call.task.id))
        self._until[call] = until  # before the look at the timer, so that one that goes off between the two finds it
        if until < self._looks_at:
            with worker.lock:
                self._arm(until)
            worker.transport.wake()

    def end(self, call: TaskCall) -> None:
        """The user's code of a call with a limit has ended; to write what it has printed may take long."""
        self._until.pop(call, None)
        worker = self._worker
        if not worker.desk.concurrent:
            self._slot.deadline = 0.0
        elif worker.output.is_due and not call.timed_out:
            with worker.lock:
                call.peer.send(wire.Began(call.task.id, ended=True))

    def _arm(self, at: float) -> None:
        """Look at that time, instead of later; called under the lock."""
        if at < self._looks_at:
            if self._timer is not None:
                self._timer.cancel()
            self._looks_at = at
            self._timer = self._worker.timers.after(max(0.0, at - monotonic()), self._look)

    def _look(self) -> None:
        """Time out every call that is over its time; called under the lock."""
        now, self._looks_at = monotonic(), math.inf
        for call, until in list(self._until.items()):
            if until <= now:
                self._until.pop(call, None)
                self._time_out(call)
        self._arm(min(list(self._until.values()), default=math.inf))

    def hear(self, call: TaskCall | None) -> bool:
        """A signal has come: take what the node manager says about it. False if it is for a call that has ended."""
        reason, task_id = self._slot.take_order()
        if reason:
            if call is None or call.task.id != task_id:
                return False
            call.cancelled = call.cancelled or reason == CANCELLED
            call.timed_out = call.timed_out or reason == TIMED_OUT
        return True

    def _time_out(self, call: TaskCall) -> None:
        """A task is over its time: interrupt it, unless the node manager has; called under the lock."""
        worker = self._worker
        if worker.desk.running.get(call.task.id) is call:
            call.timed_out = True
            if worker.desk.concurrent:
                call.peer.send(wire.Began(call.task.id, over=True))
            else:
                self._slot.heard(call.task.id)
            worker.interrupting.insist(call)
            worker.timers.after(TIMEOUT_GRACE_S, lambda: self._give_up(call))

    def _give_up(self, call: TaskCall) -> None:
        """That did not help: answer without it; called under the lock."""
        worker = self._worker
        if worker.desk.running.get(call.task.id) is not call:
            return
        del worker.desk.running[call.task.id]
        call.abandoned = True
        worker.replies.queue(call, call.worker.failing.outcome_of(call, TimeoutError()), 0)
        if worker.desk.concurrent:  # other callers' calls run here: it goes on until it ends, and keeps its place
            worker.desk.overdue.add(call)
            worker.replies.flush(call.peer)
            return
        worker.life.exiting = "a task ran over its time and could not be interrupted"
        end_process(worker.ending, 1)
