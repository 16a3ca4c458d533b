"""Workers of other nodes that are actors which this node manager keeps."""

from __future__ import annotations

from ray.ids import node_of
from ray.messages import cluster, codec, node, wire
from ray.runtime.cluster.members import Members


class ActorHosts:
    """Implements ``ActorsElsewhere``, by messages to the node managers of these workers."""

    def __init__(self, members: Members) -> None:
        self._members = members
        #: {lease id: worker id}, and the other way round
        self._worker_of: dict[bytes, bytes] = {}
        self._lease_of: dict[bytes, bytes] = {}

    def begin(self, granted: node.Granted, order: node.StartActor) -> None:
        """A worker that was lent becomes an actor."""
        self._worker_of[granted.lease], self._lease_of[granted.process] = granted.process, granted.lease
        self._pass(granted.process, order)

    def ended(self, lease: bytes) -> bytes | None:
        """The lease of such a worker is over; returns the worker's id."""
        worker = self._worker_of.pop(lease, None)
        if worker is not None:
            del self._lease_of[worker]
        return worker

    def lease_of(self, worker: bytes) -> bytes | None:
        """The lease by which this node has the worker, if it is one of these."""
        return self._lease_of.get(worker)

    def kill(self, worker: bytes, reason: str) -> None:
        """See ``ActorsElsewhere``."""
        self._members.send(node_of(worker), cluster.KillProcess(worker, reason))

    def end_orderly(self, worker: bytes) -> None:
        """See ``ActorsElsewhere``."""
        self._pass(worker, wire.Terminate())

    def expect_end(self, worker: bytes) -> None:
        """See ``ActorsElsewhere``."""
        self._members.send(node_of(worker), cluster.ExpectProcess(worker))

    def settle(self, worker: bytes, resources: dict[str, int]) -> None:
        """See ``ActorsElsewhere``."""
        lease = self._lease_of.get(worker)
        if lease is not None:
            self._members.send(node_of(lease), cluster.ShrinkLease(lease, resources))

    def _pass(self, worker: bytes, message: object) -> None:
        self._members.send(node_of(worker), cluster.ToProcess(worker, codec.encode(message)))
