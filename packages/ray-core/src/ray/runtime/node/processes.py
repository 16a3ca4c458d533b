"""The processes and jobs of a node, for what other nodes want of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from ray.ids import node_number
from ray.messages import jobs, node
from ray.runtime.cluster.lending import RemoteDriver
from ray.runtime.cluster.peering import Sender
from ray.runtime.node.client import Client
from ray.runtime.node.ends import expect_end
from ray.runtime.node.job_ends import LEFT, JobEnds
from ray.runtime.node.jobs import Job, Jobs
from ray.runtime.node.output import NodeOutput
from ray.runtime.node.worker_pool import WorkerPool
from ray.runtime.process.node_start import JobConfig


class Nobody:
    """A home that is not there. Implements ``Sender``."""

    id = b""
    job = ""

    def send(self, message: Any) -> None:
        """Nobody hears it."""


class NodeProcesses:
    """Implements ``Processes``."""

    def __init__(
        self,
        clients: Mapping[bytes, Client],
        pool: WorkerPool,
        known: Jobs,
        job_ends: JobEnds,
        output: NodeOutput,
    ) -> None:
        self._clients = clients
        self._pool = pool
        self._jobs = known
        self._job_ends = job_ends
        self._output = output
        #: {adopted job: {node manager that borrows workers for it: what takes the words to its driver}}
        self._homes: dict[str, dict[bytes, Sender]] = {}
        #: Whether a node manager directs this node; set before anything is served.
        self.leads: Callable[[bytes], bool] = lambda home: False

    def homes(self) -> Iterable[Client]:
        """Other node managers that are connected."""
        return [client for client in self._clients.values() if client.kind == "node"]

    def of_this_node(self) -> Iterable[Client]:
        """Processes of this node that are connected."""
        return [client for client in self._clients.values() if client.kind != "node"]

    def is_connected(self, client: Client) -> bool:
        """Whether it is, still."""
        return self._clients.get(client.id) is client

    def send_to(self, process: bytes, message: Any) -> bool:
        """See ``Processes``."""
        client = self._clients.get(process)
        if client is None:
            return False
        client.send(message)
        return True

    def kill(self, process: bytes, reason: str) -> None:
        """See ``Processes``."""
        worker = self._pool.workers.get(process)
        if worker is not None:
            self._pool.kill(worker, reason)

    def expect_end(self, process: bytes) -> None:
        """See ``Processes``."""
        worker = self._pool.workers.get(process)
        if worker is not None:
            expect_end(self._pool, worker)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def adopt(self, job: str, config: bytes, home: bytes, driver: Sender) -> None:
        """See ``Processes``: where its directory is not on this machine, workers begin in that of the node manager."""
        known = self._jobs.get(job)
        if known is not None and (known.is_over or not self._takes(known, home)):
            return
        wanted = JobConfig.from_json(config)
        self._homes.setdefault(job, {})[home] = driver
        if known is not None and known.driver is not None and self._is_nearer(known, known.driver, home):
            return  # words to the driver go the way that they went
        adopted = self._jobs.adopt(job, driver)
        if adopted.is_left:
            adopted.is_left = False
            self._jobs.packages.changed(adopted)
        if adopted.config is None:
            try:
                self._jobs.configure(adopted, wanted)
            except ValueError:
                self._jobs.configure(adopted, msgspec.structs.replace(wanted, cwd=""))
                _keep_directory(adopted, wanted.cwd)

    def _takes(self, job: Job, home: bytes) -> bool:
        """Whether a home may have a job here: if nobody has it any more, the words of its workers must not go round."""
        if not job.is_left:
            return isinstance(job.driver, RemoteDriver)
        return self.leads(home) or (job.config is not None and job.config.home == node_number(home))

    def _is_nearer(self, job: Job, driver: Sender, home: bytes) -> bool:
        """Whether the way to a job's driver is to stay as it is, though another home has workers for it here."""
        assert isinstance(driver, RemoteDriver)
        own = 0 if job.config is None else job.config.home
        if own == node_number(home):
            return False
        return bool(driver.home.id) and (own == node_number(driver.home.id) or self.leads(driver.home.id))

    def take_over(self, job: str, config: bytes) -> None:
        """A job has actors that live, whatever has become of its driver; its home is expected to adopt it here."""
        if self._jobs.get(job) is None:
            self.adopt(job, config, b"", RemoteDriver(Nobody(), job))

    def let_go(self, job: str) -> None:
        """The home of a job that was taken over has adopted it by now, or has not."""
        self.end_job(job, b"", goes_on=True)

    def serves(self, job: str) -> bool:
        """See ``Processes``."""
        known = self._jobs.get(job)
        return known is not None and known.is_prepared and not known.is_over

    def end_job(self, job: str, home: bytes, *, goes_on: bool = False) -> None:
        """See ``Processes``: the job is over here when its last home needs none.

        Nodes may be each other's homes. So once the driver has ended each of them gives up what it does not need.
        """
        homes = self._homes.get(job, {})
        driver = homes.pop(home, None)
        if driver is None:  # the job is of this node, or has ended here: the home need not wait
            client = self._clients.get(home)
            if client is not None:
                RemoteDriver(client, job).send(node.Ending(LEFT))
            return
        known = self._jobs.get(job)
        if known is not None and known.config is not None:
            known.is_orphaned |= not goes_on or known.config.home == node_number(home)
        if homes and known is not None:
            known.driver = next(iter(homes.values()))
            driver.send(node.Ending(LEFT))
            self._jobs.packages.changed(known)
            if known.is_orphaned:
                self._job_ends.give_up(known)
            return
        del self._homes[job]
        if known is not None and isinstance(known.driver, RemoteDriver):
            known.goes_on = not known.is_orphaned
            known.is_left = True
            self._job_ends.begin(known, known.driver)

    def home_lost(self, home: bytes) -> None:
        """See ``Processes``."""
        for job in list(self._homes):
            self.end_job(job, home, goes_on=True)

    def node_down(self, other: bytes) -> None:
        """Another node is dead: drivers that go do not wait for what it had of their jobs."""
        self._job_ends.node_down(other)

    def piece_of(self, job: str, offset: int) -> jobs.PackagePiece:
        """A part of the ZIP file of the directory that a job has sent along, or why there is none."""
        return self._jobs.packages.piece(job, offset)

    def config_of(self, job: str) -> bytes:
        """See ``Processes``."""
        known = self._jobs.get(job)
        return b"" if known is None or known.config is None else known.config.to_json()

    def tell_driver(self, job: str, message: Any, other: bytes) -> None:
        """See ``Processes``."""
        if isinstance(message, node.Ending):
            self._job_ends.ended_there(job, other)
        elif isinstance(message, node.Logs):
            self._output.forward(job, message)
        else:
            self._jobs.tell(job, message)

    def printed(self, job: str, amount: int) -> None:
        """See ``Processes``: a driver that has gone was given up, and words on it are late."""
        if self._jobs.hears(job) is not None:
            self._output.has_room(job, amount)


def _keep_directory(job: Job, cwd: str) -> None:
    """Other machines, to which this one may pass the job on, may have the directory that is not here."""
    if job.config is not None:
        job.config = msgspec.structs.replace(job.config, cwd=cwd)
