"""What the node manager does about the tasks that its workers run, without the help of their interpreters."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

from ray.abc.transport import Frame
from ray.clock import monotonic
from ray.ids import PROCESS_ID_BYTES
from ray.messages import node
from ray.protocol import time_limits
from ray.protocol.actors import ActorTable
from ray.protocol.leases import LeaseTable
from ray.protocol.run_slot import CANCELLED, TIMED_OUT
from ray.runtime.node.client import Client, Handler
from ray.runtime.node.worker_pool import WorkerPool
from ray.runtime.node.worker_process import WorkerProcess
from ray.runtime.process.timers import Timer, Timers


class NodeRunning:
    """Takes the messages about what runs."""

    def __init__(
        self,
        leases: LeaseTable,
        clients: Mapping[bytes, Client],
        pool: WorkerPool,
        timers: Timers,
        actors: ActorTable,
    ) -> None:
        self._leases = leases
        self._clients = clients
        self._pool = pool
        self._timers = timers
        self._actors = actors
        #: {worker id: the monotonic time when its limits are looked at next, and the timer}
        self._looks: dict[bytes, tuple[float, Timer]] = {}

    def handlers(self) -> dict[type, Handler]:
        """What the node manager passes on."""
        return {
            node.KillLease: self._kill,
            node.RecallLease: self._recall,
            node.Interrupt: self._interrupt,
            node.Limited: self._limited,
        }

    def _leased(self, lease_id: bytes) -> WorkerProcess | None:
        lease = self._leases.leases.get(lease_id)
        return None if lease is None else self._pool.workers.get(lease.worker)

    def _kill(self, client: Client, message: node.KillLease, frames: Sequence[Frame]) -> None:
        worker = self._leased(message.lease)
        if worker is not None:
            self._pool.kill_if_running(worker, message.running, message.reason)

    def _recall(self, client: Client, message: node.RecallLease, frames: Sequence[Frame]) -> None:
        """A worker does not answer a recall: put it in force here, or find that it has answered meanwhile."""
        worker = self._leased(message.lease)

        def look(stands: bool) -> None:
            exempt = worker.note.revoke(message.recall) if stands and worker is not None else None
            client.send(node.LeaseRecalled(message.lease, message.recall, exempt is not None, exempt or b""))

        if worker is None:
            look(False)
        else:
            self._pool.stop(worker, look)

    # --- interrupts ---------------------------------------------------------------------------------------------------

    def _interrupt(self, client: Client, message: node.Interrupt, frames: Sequence[Frame]) -> None:
        if message.actor:
            actor = self._actors.actors.get(message.actor)
            worker = self._pool.workers.get(actor.worker) if actor is not None and actor.worker else None
        else:
            worker = self._leased(message.lease)
        if worker is None:
            return
        if message.actor and worker.note.running != message.task:
            self._revoke_call(client, message, worker)
        else:
            _signal(worker, CANCELLED, message.task)

    def _revoke_call(self, client: Client, message: node.Interrupt, worker: WorkerProcess) -> None:
        """A cancelled call waits in an actor, or has ended there: have it not started."""

        def look(stands: bool) -> None:
            note = worker.note
            if stands and note.running == message.task:  # it has begun meanwhile
                _signal(worker, CANCELLED, message.task)
            elif stands and note.revoke_call(message.task):
                client.send(node.CallRevoked(message.task, message.actor, note.running))

        self._pool.stop(worker, look)

    # --- limits -------------------------------------------------------------------------------------------------------

    def _limited(self, client: Client, message: node.Limited, frames: Sequence[Frame]) -> None:
        """A worker has begun a call with a limit: look at it when that is over."""
        if client.worker is not None:
            self._look_at(client.worker, message.until + time_limits.INTERRUPT_S)

    def _look_at(self, worker: WorkerProcess, at: float) -> None:
        known = self._looks.get(worker.id)
        if known is not None:
            if known[0] <= at:
                return
            known[1].cancel()
        delay_s = max(0.0, at - monotonic())
        self._looks[worker.id] = at, self._timers.after(delay_s, lambda: self._look(worker))

    def _look(self, worker: WorkerProcess) -> None:
        del self._looks[worker.id]
        note = worker.note
        deadline, task = note.deadline, note.running
        if not deadline or worker.id not in self._pool.workers:
            return
        due = time_limits.step(monotonic() - deadline, heard=note.has_heard)
        if due.interrupt:
            _signal(worker, TIMED_OUT, task)
        if due.tell:
            owner = self._clients.get(task[:PROCESS_ID_BYTES]) or self._home_of(worker)
            if owner is not None:
                owner.send(node.Overdue(task))
        if due.end:
            reason = "a task ran over its time and could not be interrupted"
            self._pool.kill_if_running(worker, task, reason)
        if due.next_s is not None:
            self._look_at(worker, deadline + due.next_s)

    def _home_of(self, worker: WorkerProcess) -> Client | None:
        """The node manager that a worker is lent to; it knows who the owner is."""
        lease = self._leases.by_worker.get(worker.id)
        return None if lease is None else self._clients.get(lease.key[0])


def _signal(worker: WorkerProcess, reason: int, task: bytes) -> None:
    """Interrupt what runs; a long C call may look at signals though it does not let other threads run."""
    if worker.note.order(reason, task):
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGINT)
