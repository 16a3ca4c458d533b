"""Workers that are ready and unleased, by job: only tasks and actors of their own job may run there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class IdleWorkers(Mapping[bytes, str]):
    """{worker id: its job}, least recently used first."""

    __slots__ = ("_jobs", "_of_job")

    def __init__(self) -> None:
        self._jobs: dict[bytes, str] = {}
        #: {job: its workers}, without empty ones; both are dicts as ordered sets.
        self._of_job: dict[str, dict[bytes, None]] = {}

    def __getitem__(self, worker: bytes) -> str:
        return self._jobs[worker]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, worker: bytes, job: str) -> None:
        """A worker of ``job`` has no work."""
        self.discard(worker)
        self._jobs[worker] = job
        self._of_job.setdefault(job, {})[worker] = None

    def discard(self, worker: bytes) -> None:
        """The worker ends, or was taken; no effect if it is not here."""
        job = self._jobs.pop(worker, None)
        if job is not None:
            workers = self._of_job[job]
            del workers[worker]
            if not workers:
                del self._of_job[job]

    def has(self, job: str) -> bool:
        """Whether one of the job's workers is idle."""
        return job in self._of_job

    def take(self, job: str) -> bytes:
        """Remove the worker of the job that was used last.

        Raises:
            KeyError: none is idle.
        """
        worker = next(reversed(self._of_job[job]))
        self.discard(worker)
        return worker

    def of_others(self, job: str) -> bytes | None:
        """A worker of another job, the one that has been idle for longest."""
        return next((worker for worker, own in self._jobs.items() if own != job), None)
