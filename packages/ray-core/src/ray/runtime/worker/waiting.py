"""What a worker does when its code waits: its CPU is free meanwhile, and so is what it has not started."""

from __future__ import annotations

import sys
from _thread import get_ident
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from ray.clock import monotonic
from ray.exceptions import RayConnectionError
from ray.headroom import SENDING, check
from ray.messages import node, wire
from ray.runtime.owner.owner import OwnerRuntime
from ray.runtime.process.telling import write
from ray.runtime.process.waiting import Waiter
from ray.runtime.refs.session import Listener
from ray.runtime.worker.actor_host import ActorHost
from ray.runtime.worker.desk import Desk
from ray.runtime.worker.own_calls import OwnCalls
from ray.runtime.worker.process_end import end_process
from ray.runtime.worker.replies import Replies

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.runtime.refs.counted import CountedRef
    from ray.runtime.worker.process_end import ProcessEnd

#: A wait shorter than this is not announced; the CPU is not given back for it.
BLOCK_GRACE_S = 0.002


class WaitingWorker(OwnerRuntime):
    """The waiting half of a worker."""

    store_death_s = 1.0
    ending: ProcessEnd
    actor: ActorHost
    desk: Desk
    own_calls: OwnCalls
    replies: Replies
    #: Threads that wait, and one more for event loops that do.
    blocked = 0
    #: Since when event loops await objects, or 0, and whether this counts in ``blocked``.
    _awaited_since = 0.0
    _awaits = False

    @abstractmethod
    def _give_back(self, *, blocked: bool) -> None:
        """Return unstarted tasks to their owners, and say whether this worker is blocked."""

    def cut_off(self, error: RayConnectionError) -> None:
        """A worker without the store is of no use: it ends, so that others do what it was given."""
        write(f"This worker ends, since it has lost its connection to the store: {error}\n")
        end_process(self.ending, 1)

    def catch_up(self) -> None:
        super().catch_up()
        self.replies.flush_all()

    # --- threads ------------------------------------------------------------------------------------------------------

    def block(self, waiter: Waiter, timeout_s: float | None) -> bool:
        check(SENDING)  # who says that it waits says later that it goes on
        with self.lock:
            self.replies.flush_all()
        grace_s = BLOCK_GRACE_S if timeout_s is None else min(BLOCK_GRACE_S, timeout_s)
        started = monotonic()
        if self.polling.wait(waiter, grace_s):
            return True
        self._enter_blocked()
        try:
            if timeout_s is None:
                return self.own_calls.wait(waiter, lambda left_s: self.polling.wait(waiter, left_s), waiter.call)
            return self.polling.wait(waiter, max(0.0, timeout_s - (monotonic() - started)))
        finally:
            self._leave_blocked()

    def wait_for_future(self, ref: CountedRef[Any], wait: Callable[[float | None], bool]) -> None:
        self.own_calls.wait(Waiter(1, (ref._entry,)), wait, "future().result")

    def _enter_blocked(self) -> None:
        with self.lock:
            self.blocked += 1
            if self.blocked == 1:
                self.node.send(node.Blocked())
                if not self.actor.id:
                    self._give_back(blocked=True)

    def _leave_blocked(self) -> None:
        with self.lock:
            self.blocked -= 1
            if not self.blocked:
                self.node.send(node.Resumed())
                if self.desk.lessee is not None and not self.actor.id:
                    self.desk.lessee.send(wire.Unblocked())

    def guard_loop(self) -> None:
        """This thread runs the event loop of an async actor: from now on no call may wait on it."""
        self.actor.loop_thread = get_ident()
        self.guarded = True

    def may_wait(self) -> bool:
        return get_ident() != self.actor.loop_thread or sys.modules["asyncio"]._get_running_loop() is None

    # --- event loops --------------------------------------------------------------------------------------------------

    def subscribe(self, listener: Listener) -> bool:
        if self.actor.id:
            listener.call = self.desk.this_call()
        waits = super().subscribe(listener)
        if waits and self.actor.id:
            self.own_calls.awaited()
        if waits and not self._awaited_since and self._holds_cpus():
            with self.lock:
                self._awaited_since = monotonic()
            self.transport.wake()  # the thread that polls looks after the grace
        return waits

    def after_events(self) -> None:
        """A loop that awaits objects may do so for long, and they may need this worker's CPU to be made."""
        if not self.table.listeners:
            self._awaited_since = 0.0
            if self._awaits:
                self._awaits = False
                self._leave_blocked()
        elif not self._awaits and 0 < self._awaited_since <= monotonic() - BLOCK_GRACE_S:
            self._awaits = True
            self._enter_blocked()

    def patience_s(self) -> float:
        patience_s = super().patience_s()
        return min(patience_s, BLOCK_GRACE_S) if self._awaited_since and not self._awaits else patience_s

    def _holds_cpus(self) -> bool:
        return not self.actor.id or bool(self.actor.resources)
