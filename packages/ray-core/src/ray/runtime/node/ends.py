"""The node manager's part in the ends of workers: which ones it asks to end, and that they end in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ray.abc.transport import Frame
from ray.messages import codec, node
from ray.protocol.leases import Lease, LeaseTable
from ray.runtime.node.client import Client, Handler
from ray.runtime.node.desk import NodeDesk
from ray.runtime.node.worker_pool import WorkerPool
from ray.runtime.node.worker_process import WorkerProcess
from ray.runtime.process.supervision import END_S
from ray.runtime.process.timers import Timers

#: Idle workers beyond one per CPU are ended after about this long.
IDLE_TRIM_S = 2.0
#: A worker whose last call has ended is killed after this time, if it has not ended itself by then.
END_GRACE_S = END_S + 1.0
#: The same, if other processes need it, and would lose something.
NEEDED_GRACE_S = 30.0


def expect_end(pool: WorkerPool, worker: WorkerProcess, grace_s: float = NEEDED_GRACE_S) -> None:
    """The worker is about to end or to linger."""
    pool.expect_end(worker, grace_s, f"its end took longer than {grace_s:g} s, so that it was killed")


class NodeEnds:
    """Limits the time of every end but those of processes that others still need."""

    def __init__(
        self,
        desk: NodeDesk,
        leases: LeaseTable,
        pool: WorkerPool,
        timers: Timers,
        actor_leaves: Callable[[Lease, WorkerProcess, node.ExitCause], None],
        keep_idle: int,
    ) -> None:
        """Make the part.

        Args:
            desk: the node manager.
            leases: of this node.
            pool: its workers.
            timers: its timers.
            actor_leaves: told of a worker that lingers, with the lease that it had.
            keep_idle: workers without work that are kept.
        """
        self._desk = desk
        self._leases = leases
        self._pool = pool
        self._timers = timers
        self._actor_leaves = actor_leaves
        self._keep_idle = keep_idle
        self._trim_armed = False

    def handlers(self) -> dict[type, Handler]:
        """What the node manager passes on."""
        return {node.Leaving: self._leaving, node.Lingering: self._lingering, node.Stay: self._stay}

    def _leaving(self, client: Client, message: node.Leaving, frames: Sequence[Frame]) -> None:
        worker = client.worker
        if worker is not None:
            worker.kill_reason = worker.kill_reason or message.reason
            expect_end(self._pool, worker, NEEDED_GRACE_S if message.needed else END_GRACE_S)

    def _lingering(self, client: Client, message: node.Lingering, frames: Sequence[Frame]) -> None:
        """Its work is over, so its lease is: only its objects, and what it has submitted, are still needed."""
        worker = client.worker
        if worker is not None:
            worker.lingers = True
            if worker.timer is not None:
                worker.timer.cancel()
            cause = node.ExitCause(exit_code=0, pid=worker.pid, running=worker.note.running)
            lease, effects = self._leases.worker_retired(worker.id)
            if lease is not None:
                self._actor_leaves(lease, worker, cause)
            self._desk.apply(effects)

    # --- workers without work -----------------------------------------------------------------------------------------

    def arm_trim(self) -> None:
        """End surplus idle workers soon, if there are any."""
        if not self._trim_armed and len(self._leases.idle) > self._keep_idle:
            self._trim_armed = True
            self._timers.after(IDLE_TRIM_S, self._trim)

    def _trim(self) -> None:
        self._trim_armed = False
        surplus = self._leases.surplus(self._keep_idle)
        self._leases.forget(surplus)
        for worker_id in surplus:
            self._end(worker_id)

    def make_room(self, job: str) -> bool:
        """Have an idle worker of another job end, so that one of this job can start; False if there is none."""
        worker_id = self._leases.idle.of_others(job)
        if worker_id is None:
            return False
        self._leases.forget([worker_id])
        self._end(worker_id)
        return True

    def _end(self, worker_id: bytes) -> None:
        """Ask an unleased worker to end, and see that it does."""
        pool = self._pool
        worker = pool.workers.get(worker_id)
        if worker is not None and worker.connection is not None:
            worker.connection.send([codec.encode(node.Exit())])
            worker.timer = self._timers.after(END_GRACE_S, lambda: pool.kill(worker, "it did not end when asked to"))

    def _stay(self, client: Client, message: node.Stay, frames: Sequence[Frame]) -> None:
        worker = client.worker
        if worker is not None and worker.timer is not None:
            worker.timer.cancel()
            self._desk.apply(self._leases.stayed(worker.id, worker.job))
            self.arm_trim()
