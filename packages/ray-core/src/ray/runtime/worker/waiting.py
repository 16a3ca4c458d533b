"""How the code of a worker waits with a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.clock import monotonic
from ray.headroom import SENDING, check
from ray.runtime.process.waiting import Waiter
from ray.runtime.worker.cpu_loan import BLOCK_GRACE_S

if TYPE_CHECKING:
    from ray.runtime.refs.counted import CountedRef
    from ray.runtime.worker.cpu_loan import CpuLoan
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.interrupting import Interrupting
    from ray.runtime.worker.own_calls import OwnCalls
    from ray.runtime.worker.replies import Replies


class Waiting:
    """Sends what is unsent before, and gives the CPU back meanwhile."""

    __slots__ = ("_desk", "_interrupting", "_loan", "_own_calls", "_replies", "_wait")

    def __init__(
        self,
        desk: Desk,
        replies: Replies,
        loan: CpuLoan,
        own_calls: OwnCalls,
        interrupting: Interrupting,
        wait: Callable[[Waiter, float | None], bool],
    ) -> None:
        """Make one.

        Args:
            desk: the calls of the process.
            replies: what they came to.
            loan: the CPUs that they use.
            own_calls: which of them can never end.
            interrupting: interrupts them.
            wait: waits without further ado; False if the time was over first.
        """
        self._desk = desk
        self._replies = replies
        self._loan = loan
        self._own_calls = own_calls
        self._interrupting = interrupting
        self._wait = wait

    def block(self, waiter: Waiter, timeout_s: float | None) -> bool:
        """Wait without the lock; False if the time was over first."""
        check(SENDING)  # a worker that says that it waits says later that it goes on
        desk, loan, wait = self._desk, self._loan, self._wait
        with desk.lock:
            self._replies.flush_all()
        grace_s = BLOCK_GRACE_S if timeout_s is None else min(BLOCK_GRACE_S, timeout_s)
        started = monotonic()
        done = wait(waiter, grace_s)
        if not done:
            loan.enter()
            try:
                if timeout_s is None:
                    done = self._own_calls.wait(waiter, lambda left_s: wait(waiter, left_s), waiter.call)
                else:
                    done = wait(waiter, max(0.0, timeout_s - (monotonic() - started)))
            finally:
                loan.leave()
        call = desk.call
        if call is not None and call.cancelled:  # else it sees its children fail with it, and is interrupted later
            self._interrupting.check(call)
        return done

    def wait_for_future(self, ref: CountedRef[Any], wait: Callable[[float | None], bool]) -> None:
        """Have ``wait`` wait for the future of ``ref``; an actor looks meanwhile whether that can end."""
        self._own_calls.wait(Waiter(1, (ref._entry,)), wait, "future().result")
