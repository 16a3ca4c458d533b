"""The node manager's part in the ends of workers: whom it asks to end, and that those end in time who are to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ray.abc.transport import Frame
from ray.messages import codec, node
from ray.runtime.process.supervision import END_S

if TYPE_CHECKING:
    from ray.runtime.node.node import NodeManager, Peer
    from ray.runtime.node.worker_pool import WorkerProcess

#: Idle workers beyond one per CPU are ended after about this long.
IDLE_TRIM_S = 2.0
#: A worker whose last call has ended is killed after this time, if it has not ended itself by then.
END_GRACE_S = END_S + 1.0
#: The same, if others need it, who would lose something.
NEEDED_GRACE_S = 30.0


class NodeEnds:
    """Limits the time of every end but those of processes that others still need."""

    def __init__(self, owner: NodeManager, keep_idle: int) -> None:
        self._node = owner
        self._keep_idle = keep_idle
        self._trim_armed = False

    def handlers(self) -> dict[type, Callable[[Peer, Any, Sequence[Frame]], None]]:
        """What the node manager passes on."""
        return {node.Leaving: self._leaving, node.Lingering: self._lingering, node.Stay: self._stay}

    def expect(self, worker: WorkerProcess, grace_s: float = NEEDED_GRACE_S) -> None:
        """The worker is about to end or to linger."""
        reason = f"its end took longer than {grace_s:g} s, so that it was killed"
        self._node.pool.expect_end(worker, grace_s, reason)

    def _leaving(self, peer: Peer, message: node.Leaving, frames: Sequence[Frame]) -> None:
        worker = peer.worker
        if worker is not None:
            worker.kill_reason = worker.kill_reason or message.reason
            self.expect(worker, NEEDED_GRACE_S if message.needed else END_GRACE_S)

    def _lingering(self, peer: Peer, message: node.Lingering, frames: Sequence[Frame]) -> None:
        """Its work is over, so its lease is: only its objects, and what it has submitted, are still needed."""
        worker, owner = peer.worker, self._node
        if worker is not None:
            worker.lingers = True
            if worker.timer is not None:
                worker.timer.cancel()
            cause = node.ExitCause(exit_code=0, pid=worker.pid, running=worker.note.running)
            lease, effects = owner.leases.worker_retired(worker.id)
            if lease is not None and lease.key[0] == owner.node_id:
                owner.actors.worker_lost(worker, cause)
            owner.apply(effects)

    # --- workers without work -----------------------------------------------------------------------------------------

    def arm_trim(self) -> None:
        """End surplus idle workers soon, if there are any."""
        if not self._trim_armed and len(self._node.leases.idle) > self._keep_idle:
            self._trim_armed = True
            self._node.timers.after(IDLE_TRIM_S, self._trim)

    def _trim(self) -> None:
        self._trim_armed = False
        surplus = self._node.leases.surplus(self._keep_idle)
        self._node.leases.forget(surplus)
        for worker_id in surplus:
            self._end(worker_id)

    def _end(self, worker_id: bytes) -> None:
        """Ask an unleased worker to end, and see that it does."""
        pool = self._node.pool
        worker = pool.workers.get(worker_id)
        if worker is not None and worker.connection is not None:
            worker.connection.send([codec.encode(node.Exit())])
            worker.timer = self._node.timers.after(
                END_GRACE_S, lambda: pool.kill(worker, "it did not end when asked to")
            )

    def _stay(self, peer: Peer, message: node.Stay, frames: Sequence[Frame]) -> None:
        worker = peer.worker
        if worker is not None and worker.timer is not None:
            worker.timer.cancel()
            self._node.apply(self._node.leases.stayed(worker.id))
            self.arm_trim()
