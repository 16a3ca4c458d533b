"""The jobs of a node: runs of programs, and what each wants for its workers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from ray.messages import jobs, node
from ray.runtime.cluster.peering import Sender
from ray.runtime.process.node_start import JobConfig, job_file

#: What is said of a directory as long as it is not known whether it will be there.
_UNKNOWN = "it was not written down what has become of it"


class Job:
    """One run of a program."""

    __slots__ = (
        "awaited", "config", "cwd", "driver", "goes_on", "id", "is_left", "is_orphaned", "is_over", "is_prepared",
        "is_swept", "leaver", "patience", "postponed",
    )  # fmt: skip

    def __init__(self, id: str) -> None:
        self.id = id
        #: None until its driver has said what it wants.
        self.config: JobConfig | None = None
        #: Descriptor of the directory in which its workers begin; -1: that of the node manager.
        self.cwd = -1
        #: What its workers need is here, or is not going to be: they may start. The rest is wanted and was postponed.
        self.is_prepared = False
        self.postponed = 0
        #: None before the driver has come, and after it has gone.
        self.driver: Sender | None = None
        #: Of a job of another node: its driver has ended, so that nobody asks for what was not begun.
        self.is_orphaned = False
        #: The same: no home needs workers for it here, and what it has here lives on by itself.
        self.is_left = False
        #: The same: what is over is this node's part in it.
        self.goes_on = False
        #: Its driver has gone: no more workers are started for it, unless a detached actor lives on.
        self.is_over = False
        #: Its last worker has ended, and what they have left is being ended.
        self.is_swept = False
        #: The driver that waits, with its connection open, for the end of what was left, and hears what that prints.
        self.leaver: Sender | None = None
        #: Other nodes where the job has not ended yet, and until when they are waited for.
        self.awaited: set[bytes] = set()
        self.patience = 0.0


class JobPackages(Protocol):
    """The directories that jobs have sent along."""

    def changed(self, job: Job) -> None:
        """A job has come to have a driver, or another one or none any more, or has said what it wants."""

    def forget(self, job: Job) -> None:
        """Nothing of the job is left."""

    def piece(self, job: str, offset: int) -> jobs.PackagePiece:
        """A part of a job's ZIP file, for another node."""


class NoPackages:
    """No job sends any. Implements ``JobPackages``."""

    def changed(self, job: Job) -> None:
        pass

    def forget(self, job: Job) -> None:
        pass

    def piece(self, job: str, offset: int) -> jobs.PackagePiece:
        return jobs.PackagePiece(job, offset, error="there is none")


def answer_of(path: jobs.Path) -> node.Answer:
    """What the worker is told that has asked a driver for its path."""
    return node.Answer(path.request, True, msgspec.msgpack.encode(([*path.path, *path.odd], path.beside)))


class Jobs:
    """{name: job}, until nothing of it is left."""

    def __init__(self, session_dir: str) -> None:
        self._session_dir = session_dir
        #: Of files of jobs that say none; set before anything is served.
        self.umask = 0o022
        #: Number of this node; likewise.
        self.node = 0
        #: Set before anything is served.
        self.packages: JobPackages = NoPackages()
        self._jobs: dict[str, Job] = {}

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    def get(self, id: str) -> Job | None:
        """The job of that name."""
        return self._jobs.get(id)

    def add(self, number: int) -> Job:
        """A job begins; the control store has given its number."""
        job = Job(f"{number:08x}")
        self._jobs[job.id] = job
        return job

    def adopt(self, id: str, driver: Sender) -> Job:
        """A job of another node is to have workers here; ``driver`` takes what is for its driver."""
        job = self._jobs.get(id)
        if job is None:
            job = self._jobs[id] = Job(id)
        job.driver = driver
        return job

    def configure(self, job: Job, config: JobConfig) -> None:
        """The driver says what it wants.

        Raises:
            ValueError: it cannot have that.
        """
        if config.umask < 0:
            config = msgspec.structs.replace(config, umask=self.umask)
        try:
            if config.cwd and config.package is None:
                job.cwd = _folder(config.cwd)
        except OSError as error:
            raise ValueError(f"its working directory {config.cwd!r} cannot be entered: {error.strerror}") from None
        if not config.home:
            config = msgspec.structs.replace(config, home=self.node)
        job.is_prepared = config.package is None
        try:
            # Once the directory is there the disk may have no room to say that it is not.
            self._write(job, config if job.is_prepared else msgspec.structs.replace(config, lack=_UNKNOWN))
        except OSError as error:
            raise ValueError(f"what it wants cannot be written down: {error}") from None
        job.config = config
        self.packages.changed(job)

    def prepare(self, job: Job, folder: str, lack: str) -> str:
        """The directory that a job has sent along is unpacked in ``folder``, or will not be: its workers may start.

        Args:
            job: the job.
            folder: path.
            lack: why it is not there: a clause, or empty.

        Returns:
            The same; the directory may be there and of no use.
        """
        assert job.config is not None
        job.is_prepared = True
        try:
            if not lack:
                job.cwd = _folder(folder)
                self._write(job, msgspec.structs.replace(job.config, sys_path=[folder, *job.config.sys_path]))
        except OSError as error:
            lack = f"it cannot be used: {error.strerror}"
        if lack:
            with contextlib.suppress(OSError):  # the file says something already
                self._write(job, msgspec.structs.replace(job.config, lack=lack))
        return lack

    def _write(self, job: Job, config: JobConfig) -> None:
        """Leave for workers what a job wants, in place of what was left before."""
        path = job_file(self._session_dir, job.id)
        with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(config.to_json())
        os.rename(path + ".new", path)

    def driver_of(self, id: str) -> Sender | None:
        """The driver of that job, if it is there."""
        job = self._jobs.get(id)
        return None if job is None else job.driver

    def hears(self, id: str) -> Sender | None:
        """The driver of that job, if it is there or about to go, and wants to know what workers print."""
        job = self._jobs.get(id)
        if job is None or job.config is None or not job.config.log_to_driver:
            return None
        return job.driver or job.leaver

    def tell(self, id: str, message: Any) -> None:
        """Send something to the driver of that job, if it is there."""
        driver = self.driver_of(id)
        if driver is not None:
            driver.send(message)

    def tell_all(self, message: Any) -> None:
        """Send something to every driver that is connected to this node manager."""
        for job in self._jobs.values():
            if job.driver is not None and job.driver.id:  # drivers of other nodes hear of it otherwise
                job.driver.send(message)

    def forget(self, job: Job) -> None:
        """Nothing of it is left."""
        self._jobs.pop(job.id, None)
        if job.cwd >= 0:
            os.close(job.cwd)
            job.cwd = -1
        with contextlib.suppress(OSError):
            os.unlink(job_file(self._session_dir, job.id))
        self.packages.forget(job)


def _folder(path: str) -> int:
    """Descriptor of a directory."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
