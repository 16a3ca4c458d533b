"""The processes and jobs of a node, for what other nodes want of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ray.messages import node
from ray.runtime.cluster.lending import RemoteDriver
from ray.runtime.cluster.peering import Sender
from ray.runtime.node.client import Client
from ray.runtime.node.ends import expect_end
from ray.runtime.node.job_ends import JobEnds
from ray.runtime.node.jobs import Jobs
from ray.runtime.node.output import NodeOutput
from ray.runtime.node.worker_pool import WorkerPool
from ray.runtime.process.node_start import JobConfig


class NodeProcesses:
    """Implements ``Processes``."""

    def __init__(
        self,
        clients: Mapping[bytes, Client],
        pool: WorkerPool,
        jobs: Jobs,
        job_ends: JobEnds,
        output: NodeOutput,
    ) -> None:
        self._clients = clients
        self._pool = pool
        self._jobs = jobs
        self._job_ends = job_ends
        self._output = output

    def homes(self) -> Iterable[Client]:
        """Other node managers that are connected."""
        return [client for client in self._clients.values() if client.kind == "node"]

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

    def adopt(self, job: str, config: bytes, driver: Sender) -> None:
        """See ``Processes``: where its directory is not on this machine, workers begin in that of the node manager."""
        known = self._jobs.get(job)
        if known is not None and (known.is_over or not isinstance(known.driver, RemoteDriver)):
            return
        adopted = self._jobs.adopt(job, driver)
        if adopted.config is None:
            wanted = JobConfig.from_json(config)
            try:
                self._jobs.configure(adopted, wanted)
            except ValueError:
                self._jobs.configure(adopted, msgspec.structs.replace(wanted, cwd=""))

    def end_job(self, job: str) -> None:
        """See ``Processes``."""
        known = self._jobs.get(job)
        if known is not None and isinstance(known.driver, RemoteDriver):
            self._job_ends.begin(known, None)

    def home_lost(self, home: bytes) -> None:
        """See ``Processes``: the jobs of its drivers are over here."""
        for job in self._jobs:
            if isinstance(job.driver, RemoteDriver) and job.driver.home.id == home:
                self._job_ends.begin(job, None)

    def config_of(self, job: str) -> bytes:
        """See ``Processes``."""
        known = self._jobs.get(job)
        return b"" if known is None or known.config is None else known.config.to_json()

    def tell_driver(self, job: str, message: Any) -> None:
        """See ``Processes``."""
        if isinstance(message, node.Logs):
            self._output.forward(job, message)
        else:
            self._jobs.tell(job, message)

    def printed(self, job: str, amount: int) -> None:
        """See ``Processes``."""
        self._output.has_room(job, amount)
