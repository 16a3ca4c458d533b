"""How processes come to their node manager: it checks what they say, and gives those that are new an id and a job."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from ray.abc.control import ControlStore
from ray.abc.control_operations import Incr
from ray.abc.transport import Connection
from ray.exceptions import ControlStoreError, RemoteProtocolError
from ray.messages import codec, node, wire
from ray.protocol import handshake
from ray.runtime.node.client import Client
from ray.runtime.node.homes import Homes
from ray.runtime.node.jobs import Job, Jobs
from ray.runtime.node.worker_pool import WorkerPool
from ray.runtime.process.refusals import Refusals

#: The counter of jobs in the control store.
JOBS = "jobs"


def _refuse(client: Client) -> None:
    raise RemoteProtocolError("a node manager that would join one which is alone")


class Arriving:
    """The context of a connection whose driver waits for the name of its job."""

    __slots__ = ("is_gone",)

    def __init__(self) -> None:
        self.is_gone = False


class Reception:
    """Of one node manager."""

    def __init__(
        self,
        membership: handshake.Membership,
        control: ControlStore,
        clients: MutableMapping[bytes, Client],
        pool: WorkerPool,
        jobs: Jobs,
        new_id: Callable[[], bytes],
        refusals: Refusals,
        homes: Homes,
    ) -> None:
        """Make one.

        Args:
            membership: of the node.
            control: the state of record.
            clients: by their ids; added to.
            pool: of workers.
            jobs: of this node.
            new_id: gives the ids of processes.
            refusals: notes why some are not let in.
            homes: the connections of other node managers.
        """
        self._membership = membership
        self._control = control
        self._clients = clients
        self._pool = pool
        self._jobs = jobs
        self._new_id = new_id
        self._refusals = refusals
        self._homes = homes
        self._admit: Callable[[Client], None] = _refuse
        self._met: Callable[[Client], None] = _refuse
        #: Whether processes of other nodes may read what is in the node's store.
        self.serves = False

    def join(self, admit: Callable[[Client], None], met: Callable[[Client], None]) -> None:
        """Other node managers may come.

        Args:
            admit: raises RemoteProtocolError if one does not belong here.
            met: told of one that has come, or come again.
        """
        self._admit, self._met = admit, met

    def receive(self, connection: Connection, message: Any) -> None:
        """Take the first message of a connection.

        Raises:
            RemoteProtocolError: the process does not belong here.
        """
        hello = handshake.check_at_node(message, self._membership)
        if hello.kind == "worker":
            self._receive_worker(connection, hello)
        elif hello.kind == "node":
            self._receive_home(connection, hello)
        elif hello.kind != "driver":
            self._let_in(connection, Client(connection, hello, hello.process or self._new_id(), "", None))
        elif hello.job:
            job = self._jobs.get(hello.job)
            if job is None or job.driver is not None or job.is_over:
                raise RemoteProtocolError(f"a driver of job {hello.job}, which waits for none")
            self._let_driver_in(connection, hello, job)
        else:
            self._name_job(connection, hello)

    def _receive_worker(self, connection: Connection, hello: wire.Hello) -> None:
        worker = self._pool.workers.get(hello.process)
        if worker is None or worker.connection is not None:
            raise RemoteProtocolError("a worker that is not expected")
        handshake.check_job(hello, worker.job)
        self._let_in(connection, Client(connection, hello, hello.process, worker.job, worker))
        worker.connection, worker.address = connection, hello.address

    def _receive_home(self, connection: Connection, hello: wire.Hello) -> None:
        """Another node manager connects, or does so again."""
        known = self._clients.get(hello.process)
        if self._homes.is_over(known, hello):
            self._homes.refuse(connection)
            return
        client = known or Client(connection, hello, hello.process, "", None)
        self._admit(client)
        if known is None or not self._homes.knows(client, hello):
            self._homes.begin(client, connection, hello, self._welcome(client))
            self._clients[client.id] = client
        elif not self._homes.go_on(client, connection, hello, self._welcome(client)):
            self._homes.refuse(connection)
            return
        self._met(client)

    def _name_job(self, connection: Connection, hello: wire.Hello) -> None:
        """Have the control store give the job a number; the driver is welcome then."""
        arriving = connection.context = Arriving()

        def on_answer(number: int | ControlStoreError) -> None:
            if arriving.is_gone:
                return
            if isinstance(number, ControlStoreError):
                self._refusals.note(number)
                connection.context = None
                connection.send((codec.encode(node.Ending(f"the control store gives no number for a job: {number}")),))
            else:
                self._let_driver_in(connection, hello, self._jobs.add(number))

        self._control.ask(Incr(JOBS), on_answer)

    def _let_driver_in(self, connection: Connection, hello: wire.Hello, job: Job) -> None:
        job.driver = Client(connection, hello, self._new_id(), job.id, None)
        self._let_in(connection, job.driver)
        self._jobs.packages.changed(job)

    def _let_in(self, connection: Connection, client: Client) -> None:
        if client.id in self._clients:
            raise RemoteProtocolError("a process that is connected already")
        connection.context = client
        self._clients[client.id] = client
        connection.send((codec.encode(self._welcome(client)),))

    def _welcome(self, client: Client) -> wire.Welcome:
        here, job = self._membership, self._jobs.get(client.job)
        serves = self.serves and not (job is not None and job.config is not None and job.config.is_guest)
        return wire.Welcome(here.node, client.id, client.job, here.digest, serves)
