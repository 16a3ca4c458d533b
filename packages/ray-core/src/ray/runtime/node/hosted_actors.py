"""Processes of this node that are actors which a director keeps.

The lease of such a worker is this node manager's own, so that neither a lost connection nor the end of a director ends
the actor. The director is told what becomes of it.
"""

from __future__ import annotations

from collections import deque

from ray.messages import cluster, node
from ray.protocol.actor_entries import DEAD, ActorEntry
from ray.protocol.leases import LeaseTable
from ray.runtime.cluster.peering import Processes
from ray.runtime.node.actor_records import AtOnce
from ray.runtime.node.actors import NodeActors
from ray.runtime.node.client import Client
from ray.runtime.node.worker_pool import WorkerPool

#: Ends that a new director is told of: those that the one before it may not have heard of.
_MOST_ENDED = 1000
_LEASE_OVER = "its worker had ended before it was to be the actor"
#: Of the leases that this node manager holds itself: no demand has this number.
_KEY = 0


class HostedActors(AtOnce):
    """Of one node manager. Implements ``ActorRecords``."""

    def __init__(self, leases: LeaseTable, actors: NodeActors, pool: WorkerPool, processes: Processes) -> None:
        """There are none yet.

        Args:
            leases: of this node.
            actors: that this node keeps or hosts.
            pool: its workers.
            processes: of this node.
        """
        self._leases = leases
        self._actors = actors
        self._pool = pool
        self._processes = processes
        #: Process id of the director that is told.
        self.director = b""
        #: The highest term that was heard of.
        self._term = 0
        #: {actor id: id of its process, which has not ended}
        self._process_of: dict[bytes, bytes] = {}
        self._ended: deque[cluster.HostedActor] = deque(maxlen=_MOST_ENDED)

    def start(self, client: Client, message: cluster.StartDirected) -> None:
        """A director that was lent a worker has it become an actor; the worker is this node manager's own then."""
        if not self._obeys(client, message.term):
            return
        lease = self._leases.leases.get(message.lease)
        worker = None if lease is None else self._pool.workers.get(lease.worker)
        if lease is None or worker is None or lease.key[0] != client.id or not lease.for_life:
            self._refuse(message, message.process, _LEASE_OVER)
            return
        self._leases.hand_over(lease, (self._leases.node_id, _KEY))
        try:
            self._actors.host(worker, lease.job, node.StartActor(message.spec, message.incarnation, message.gpu_ids))
        except ValueError as error:
            self._pool.kill(worker, str(error))
            self._refuse(message, worker.id, str(error))
        else:
            self._process_of[message.spec.id] = worker.id

    def _refuse(self, message: cluster.StartDirected, process: bytes, reason: str) -> None:
        """The director hears of the end of a process that was none, and looks for another one."""
        cause = node.ExitCause(reason=reason)
        self._tell(cluster.HostedActor(message.spec.id, message.incarnation, process, DEAD, cause, begun=False))

    def asked(self, client: Client, message: cluster.AskHosted) -> None:
        """A director wants to know of all."""
        if self._obeys(client, message.term):
            here = [self._words(self._actors.table.actors[actor]) for actor in self._process_of]
            client.send(cluster.Hosting([*self._ended, *here], whole=True, number=message.number))

    def _obeys(self, client: Client, term: int) -> bool:
        if term < self._term:
            return False
        self._term, self.director = term, client.id
        return True

    def hosted(self, entry: ActorEntry) -> None:
        """See ``ActorRecords``."""
        self._tell(self._words(entry))

    def _words(self, entry: ActorEntry) -> cluster.HostedActor:
        return cluster.HostedActor(
            entry.spec.id,
            entry.incarnation,
            self._process_of.get(entry.spec.id, b""),
            entry.state,
            entry.cause,
            entry.error,
            entry.exiting,
            entry.begun,
        )

    def _tell(self, actor: cluster.HostedActor) -> None:
        if actor.state == DEAD:
            if self._process_of.get(actor.id) == actor.process:
                del self._process_of[actor.id]
            self._ended.append(actor)
        self._processes.send_to(self.director, cluster.Hosting([actor]))
