"""How the code of a worker waits on event loops: they may do so for long, for what needs its CPU to be made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ray.clock import monotonic
from ray.runtime.worker.cpu_loan import BLOCK_GRACE_S

if TYPE_CHECKING:
    from ray.protocol.references import ReferenceTable
    from ray.runtime.refs.session import Listener
    from ray.runtime.worker.actor_host import ActorHost
    from ray.runtime.worker.cpu_loan import CpuLoan
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.own_calls import OwnCalls


class LoopLoan:
    """Counts all loops of the process as one thread that waits, while any of them awaits objects."""

    __slots__ = (
        "_actor", "_counts", "_desk", "_loan", "_own_calls", "_subscribe", "_table", "_wake", "since",
    )  # fmt: skip

    def __init__(
        self,
        desk: Desk,
        actor: ActorHost,
        table: ReferenceTable,
        loan: CpuLoan,
        own_calls: OwnCalls,
        subscribe: Callable[[Listener], bool],
        wake: Callable[[], None],
    ) -> None:
        """Make one.

        Args:
            desk: the calls of the process.
            actor: what the process is.
            table: its objects.
            loan: the CPUs that its calls use.
            own_calls: which of them can never end.
            subscribe: has a listener told; False if there is nothing to wait for.
            wake: has the thread that polls look.
        """
        self._desk = desk
        self._actor = actor
        self._table = table
        self._loan = loan
        self._own_calls = own_calls
        self._subscribe = subscribe
        self._wake = wake
        #: Since when event loops await objects, or 0.
        self.since = 0.0
        #: They count as blocked.
        self._counts = False

    def subscribe(self, listener: Listener) -> bool:
        """Have the listener told; False if there is nothing to wait for."""
        actor = self._actor
        if actor.id:
            listener.call = self._desk.this_call()
        waits = self._subscribe(listener)
        if waits and actor.id:
            self._own_calls.awaited()
        if waits and not self.since and (actor.resources or not actor.id):
            with self._desk.lock:
                self.since = monotonic()
            self._wake()  # the thread that polls looks after the grace
        return waits

    def look(self) -> None:
        """Begin or end to count as blocked; called under the lock by the thread that polls."""
        if not self._table.listeners:
            self.since = 0.0
            if self._counts:
                self._counts = False
                self._loan.leave()
        elif not self._counts and 0 < self.since <= monotonic() - BLOCK_GRACE_S:
            self._counts = True
            self._loan.enter()

    def patience_s(self, patience_s: float) -> float:
        """How long that thread may sleep, if it may sleep so long as far as others are concerned."""
        return min(patience_s, BLOCK_GRACE_S) if self.since and not self._counts else patience_s
