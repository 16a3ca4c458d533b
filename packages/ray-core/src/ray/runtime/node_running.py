"""What the node manager does about the tasks that its workers run, without the help of their interpreters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ray.abc.transport import Frame
from ray.messages import node

if TYPE_CHECKING:
    from ray.runtime.node import NodeManager, Peer
    from ray.runtime.worker_pool import WorkerProcess


class NodeRunning:
    """Takes the messages about what runs."""

    def __init__(self, owner: NodeManager) -> None:
        self._node = owner

    def handlers(self) -> dict[type, Callable[[Peer, Any, Sequence[Frame]], None]]:
        """What the node manager passes on."""
        return {
            node.KillLease: self._kill,
            node.RecallLease: self._recall,
        }

    def _leased(self, lease_id: bytes) -> WorkerProcess | None:
        lease = self._node.leases.leases.get(lease_id)
        return None if lease is None else self._node.pool.workers.get(lease.worker)

    def _kill(self, peer: Peer, message: node.KillLease, frames: Sequence[Frame]) -> None:
        worker = self._leased(message.lease)
        if worker is not None:
            self._node.pool.kill_if_running(worker, message.running, message.reason)

    def _recall(self, peer: Peer, message: node.RecallLease, frames: Sequence[Frame]) -> None:
        """A worker does not answer a recall: put it in force here, or find that it has answered meanwhile."""
        worker = self._leased(message.lease)

        def look(stands: bool) -> None:
            exempt = worker.note.revoke(message.recall) if stands and worker is not None else None
            peer.send(node.LeaseRecalled(message.lease, message.recall, exempt is not None, exempt or b""))

        if worker is None:
            look(False)
        else:
            self._node.pool.stop(worker, look)
