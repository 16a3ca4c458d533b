"""The ends of jobs: a driver that goes takes along exactly what is its own, and detached actors live on."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection

from ray.clock import monotonic
from ray.messages import node
from ray.protocol.actors import ActorTable
from ray.protocol.leases import LeaseTable
from ray.runtime.cluster.peering import Sender
from ray.runtime.node.jobs import Job, Jobs
from ray.runtime.node.output import NodeOutput
from ray.runtime.node.recorded_errors import RecordedErrors
from ray.runtime.node.worker_pool import WorkerPool
from ray.runtime.process.group_ends import TRACKER_S, is_tracker
from ray.runtime.process.marks import orphans_of
from ray.runtime.process.timers import Timers

_SWEEP_S = 0.02
#: How often it is looked whether a job whose driver has ended needs other nodes.
_LOOK_S = 0.1
_OVER = "the driver of its job has ended"
#: Other nodes end what is left of a job within this time, or are not waited for.
_PATIENCE_S = 1.0
LEFT = "the job has ended"


class JobEnds:
    """Ends what is left of jobs whose drivers have gone."""

    def __init__(
        self,
        session: str,
        jobs: Jobs,
        leases: LeaseTable,
        pool: WorkerPool,
        actors: ActorTable,
        output: NodeOutput,
        recorded: RecordedErrors,
        timers: Timers,
    ) -> None:
        self._session = session
        self._jobs = jobs
        self._leases = leases
        self._pool = pool
        self._actors = actors
        self._output = output
        self._recorded = recorded
        self._timers = timers
        #: Tells other nodes of a job that is over, and returns their numbers; set before anything is served.
        self.on_over: Callable[[str], Collection[bytes]] = lambda job: ()

    def begin(self, job: Job, leaver: Sender | None) -> None:
        """The driver goes; what it has submitted was ended already.

        Args:
            job: its job.
            leaver: the driver, if it waits to be told that all is over. Until then it hears what workers print.
        """
        if job.driver is None:
            return
        job.driver, job.leaver = None, leaver
        if leaver is None:
            self._output.driver_lost(job.id)
        self.look(job.id)
        self._jobs.packages.changed(job)

    def give_up(self, job: Job) -> None:
        """The driver of a job of another node has ended: tell other nodes as soon as none of them is needed for it."""
        id = job.id
        if self._jobs.get(id) is not job or job.driver is None:  # it is ending
            return
        wanted = {lease.job for lease in self._leases.leases.values()}
        wanted |= {entry.job for entry in self._leases.demands.values()}
        is_needed = id in wanted or self._actors.outlives(id)
        if is_needed:
            self._timers.after(_LOOK_S, lambda: self.give_up(job))
        else:
            self.on_over(id)

    def look(self, id: str) -> None:
        """A process of the job has ended, or an actor."""
        job = self._jobs.get(id)
        if job is None or job.driver is not None:
            return
        left = [worker for worker in self._pool.workers.values() if worker.job == id]
        if not job.is_over and self._actors.outlives(id):
            if not any(worker.kill_reason for worker in left):
                self._let_go(job)
            return
        if not job.is_over:
            job.is_over = True
            self._leases.end_job(id)
            job.awaited = set(self.on_over(id))
            job.patience = monotonic() + _PATIENCE_S
            for worker in left:
                self._pool.kill(worker, _OVER)
        if not left and not job.is_swept:
            job.is_swept = True
            self._sweep(job, monotonic() + TRACKER_S)

    def _sweep(self, job: Job, patient: float) -> None:
        """End what workers have left outside of their groups; resource trackers may clean up and end by themselves."""
        left = [pid for pid in orphans_of(self._session, job.id) if not self._pool.knows(pid)]
        for pid in left:
            tracks = monotonic() < patient and is_tracker(pid)
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT if tracks else signal.SIGKILL)
        if left:
            self._timers.after(_SWEEP_S, lambda: self._sweep(job, patient))
        else:
            self._end(job)

    def _end(self, job: Job) -> None:
        """All has ended here. The last words of workers of other nodes come while the leaver is still there."""
        if job.leaver is not None and job.awaited and monotonic() < job.patience:
            self._timers.after(_SWEEP_S, lambda: self._end(job))
            return
        self._let_go(job)
        if not job.goes_on:
            self._recorded.expire(job.id)
        self._output.forget(job.id)
        self._jobs.forget(job)

    def ended_there(self, id: str, other: bytes) -> None:
        """Another node has ended what it had of a job, and said all that this has printed."""
        job = self._jobs.get(id)
        if job is not None:
            job.awaited.discard(other)

    def node_down(self, other: bytes) -> None:
        """Another node is dead, and with it all that it had: no job waits for its last words."""
        for job in self._jobs:
            job.awaited.discard(other)

    def leaver_lost(self, id: str, leaver: Sender) -> None:
        """The driver does not wait any longer: nobody hears the last words."""
        job = self._jobs.get(id)
        if job is not None and job.leaver is leaver:
            job.leaver = None
            self._output.driver_lost(id)

    def _let_go(self, job: Job) -> None:
        leaver, job.leaver = job.leaver, None
        if leaver is not None:
            self._output.driver_lost(job.id)
            leaver.send(node.Ending(LEFT))
