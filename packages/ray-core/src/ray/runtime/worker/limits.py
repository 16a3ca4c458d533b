"""Calls of a worker that are to end before their time: by this process where it hears of it, else by a signal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from ray.clock import monotonic
from ray.messages import node, wire

if TYPE_CHECKING:
    from ray.protocol.run_slot import RunSlot
    from ray.runtime.process.timers import Timer, Timers
    from ray.runtime.worker.abandoning import Abandoning
    from ray.runtime.worker.call import TaskCall
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.interrupting import Interrupting
    from ray.runtime.worker.streams import Flusher

#: After a timed-out task was interrupted in vain, its process ends.
TIMEOUT_GRACE_S = 1.0


class Limits:
    """The time limits of a worker's calls, and what the node manager says about them in the worker's slot."""

    def __init__(
        self,
        desk: Desk,
        slot: RunSlot,
        timers: Timers,
        wake: Callable[[], None],
        tell_node: Callable[[node.Limited], None],
        output: Flusher,
        interrupting: Interrupting,
        abandoning: Abandoning,
    ) -> None:
        """Make one.

        Args:
            desk: the calls of the process.
            slot: shared with the node manager.
            timers: run under the lock of the process.
            wake: has the thread that polls look at them.
            tell_node: sends the node manager a message.
            output: what calls have printed.
            interrupting: interrupts a call that is over its time.
            abandoning: answers for a call that was interrupted in vain.
        """
        self._desk = desk
        self._slot = slot
        self._timers = timers
        self._wake = wake
        self._tell_node = tell_node
        self._output = output
        self._interrupting = interrupting
        self._abandoning = abandoning
        #: When the node manager looks next whether a call is over its time.
        self._looked_at = 0.0
        #: {call with a limit that runs: the monotonic time by which it is to end}
        self._until: dict[TaskCall, float] = {}
        #: When this process looks next, and the timer for that: one for all, as most calls end long before.
        self._looks_at = math.inf
        self._timer: Timer | None = None

    def begin(self, call: TaskCall) -> None:
        """A call with a limit begins.

        The caller, or the node manager, looks as well when it is over: this process may be too busy.

        The node manager looks at the one call that runs alone; of those that run beside others, their owners know.
        """
        until = monotonic() + call.task.timeout_s
        if not self._desk.concurrent:
            self._slot.begin_anew()  # it may have been told of an earlier attempt
            self._slot.deadline = until
            if not monotonic() < self._looked_at <= until:  # it looks then, and finds this
                self._looked_at = until
                self._tell_node(node.Limited(until))
        else:
            with self._desk.lock:
                call.peer.send(wire.Began(call.task.id))
        self._until[call] = until  # before the look at the timer, so that one that goes off between the two finds it
        if until < self._looks_at:
            with self._desk.lock:
                self._arm(until)
            self._wake()

    def end(self, call: TaskCall) -> None:
        """The user's code of a call with a limit has ended; to write what it has printed may take long."""
        self._until.pop(call, None)
        if not self._desk.concurrent:
            self._slot.deadline = 0.0
        elif self._output.is_due and not call.timed_out:
            with self._desk.lock:
                call.peer.send(wire.Began(call.task.id, ended=True))

    def _arm(self, at: float) -> None:
        """Look at that time, instead of later; called under the lock."""
        if at < self._looks_at:
            if self._timer is not None:
                self._timer.cancel()
            self._looks_at = at
            self._timer = self._timers.after(max(0.0, at - monotonic()), self._look)

    def _look(self) -> None:
        """Time out every call that is over its time; called under the lock."""
        now, self._looks_at = monotonic(), math.inf
        for call, until in list(self._until.items()):
            if until <= now:
                self._until.pop(call, None)
                self._time_out(call)
        self._arm(min(list(self._until.values()), default=math.inf))

    def _time_out(self, call: TaskCall) -> None:
        """A task is over its time: interrupt it, unless the node manager has; called under the lock."""
        desk = self._desk
        if desk.running.get(call.task.id) is call:
            call.timed_out = True
            if desk.concurrent:
                call.peer.send(wire.Began(call.task.id, over=True))
            else:
                self._slot.heard(call.task.id)
            self._interrupting.insist(call)
            self._timers.after(TIMEOUT_GRACE_S, lambda: self._abandoning.give_up(call))
