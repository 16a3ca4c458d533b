"""Starts of workers: as many as are wanted and there is room for, after ever longer pauses where they fail."""

from __future__ import annotations

from collections.abc import Callable

from ray.clock import monotonic, wall_time
from ray.messages import node
from ray.protocol.leases import LeaseTable
from ray.runtime.node.desk import NodeDesk
from ray.runtime.node.failures import NodeFailures
from ray.runtime.node.jobs import Jobs
from ray.runtime.node.trouble import NO_ROOM
from ray.runtime.node.worker_pool import WorkerPool
from ray.runtime.node.worker_process import WorkerProcess
from ray.runtime.process.timers import Timers

#: Workers that fail to start in a row are replaced at once up to this many, then after ever longer pauses.
FREE_STARTS = 4
MAX_START_DELAY_S = 5.0
#: How long a worker that cannot be started at all is not tried again.
FULL_DELAY_S = 1.0
#: How often it is recorded that there is no room for workers that are wanted.
TELL_AGAIN_S = 30.0


class WorkerStarts:
    """Of one node manager."""

    def __init__(
        self,
        desk: NodeDesk,
        leases: LeaseTable,
        pool: WorkerPool,
        timers: Timers,
        jobs: Jobs,
        failures: NodeFailures,
        make_room: Callable[[str], bool],
    ) -> None:
        """``make_room``: has an idle worker of another job than the given one end; returns whether there is one."""
        self._desk = desk
        self._leases = leases
        self._pool = pool
        self._timers = timers
        self._jobs = jobs
        self._failures = failures
        self._make_room = make_room
        #: Workers in a row that ended before they were ready.
        self._in_a_row = 0
        #: Before then no driver is told again that there is no room for workers, and it is not recorded again.
        self._tell_of_room = self._record_room = 0.0

    def start(self, id: str, count: int) -> None:
        """Start so many workers for a job, or as many as there is room for."""
        job = self._jobs.get(id)
        if job is None or job.is_over or job.config is None:
            self._leases.end_job(id)
            return
        if not job.is_prepared:
            job.postponed += count
            return
        for _ in range(count):
            if self._pool.has_room:
                self._pool.start_worker(job.id, job.cwd)
            else:
                self._has_no_room(job.id)

    def _has_no_room(self, job: str) -> None:
        """A worker is missing and cannot be started now."""
        self._timers.after(FULL_DELAY_S, lambda: self._desk.apply(self._leases.worker_failed_to_start(job)))
        if self._make_room(job):
            return
        now = monotonic()
        if len(self._pool.workers) >= self._pool.most and now >= self._tell_of_room:
            self._tell_of_room = now + FULL_DELAY_S
            count = len(self._pool.workers)
            text = (
                f"No more workers can be started: {self._pool.most_reason}. There are {count}; tasks and actors that "
                "need another one wait until one ends."
            )
            record = node.ErrorRecord(NO_ROOM, text, wall_time())
            if now >= self._record_room:
                self._record_room = now + TELL_AGAIN_S
                self._failures.record(job, record, print_it=False)
            self._jobs.tell(
                job, node.RecordError(record)
            )  # which says it once, and in errors for as long as it goes on

    def succeeded(self) -> None:
        """A worker is ready."""
        self._in_a_row = 0

    def failed(self, worker: WorkerProcess, cause: node.ExitCause) -> None:
        """A worker has ended before it was ready; another one follows."""
        self._pool.look_at_place()
        job = self._jobs.get(worker.job)
        if self._pool.closing or job is None or job.is_over:
            return
        self._failures.record_failed_start(worker.job, cause)
        self._in_a_row += 1
        excess = self._in_a_row - FREE_STARTS
        delay_s = min(MAX_START_DELAY_S, 0.1 * 2.0 ** min(excess, 10)) if excess > 0 else 0.0
        self._timers.after(delay_s, lambda: self._desk.apply(self._leases.worker_failed_to_start(worker.job)))
