"""What the node manager does about those who wait long for a worker, while others use or hold what they need."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ray.messages import node

if TYPE_CHECKING:
    from ray.protocol.waiting import DemandKey
    from ray.runtime.node import NodeManager

#: Who has waited for this long has waited long.
LONG_S = 1.0
#: The pauses between two appeals double up to this, while anybody waits.
MAX_PAUSE_S = 60.0


class NodePatience:
    """Has every process let go of what it only seems to hold.

    A handle in a cycle of references keeps its actor, and what that holds, until the interpreter looks for cycles. It
    does so when it has made many objects, but a process that waits makes none.
    """

    def __init__(self, owner: NodeManager) -> None:
        self._node = owner
        self._armed = False
        #: {demand: its turn, which changes with every grant, and since when it has been that}
        self._seen: dict[DemandKey, tuple[int, float]] = {}
        #: The pause after the next appeal, and its time.
        self._pause_s, self._next = LONG_S, 0.0

    def attend(self) -> None:
        """Somebody may have to wait."""
        if not self._armed and self._node.leases.demands:
            self._armed = True
            self._node.timers.after(LONG_S / 2, self._look)

    def _look(self) -> None:
        self._armed = False
        now, seen = time.monotonic(), self._seen
        self._seen = {}
        for key, entry in self._node.leases.demands.items():
            if entry.infeasible:
                continue
            turn, since = seen.get(key, (entry.turn, now))
            self._seen[key] = (turn, since) if turn == entry.turn else (entry.turn, now)
        if all(now - since < LONG_S for _, since in self._seen.values()):
            self._pause_s, self._next = LONG_S, 0.0
        elif now >= self._next and self._actors_hold():
            for peer in self._node.peers.values():
                peer.send(node.Collect())
            self._next = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
        self._node.apply(self._node.leases.tick(now))
        self.attend()

    def _actors_hold(self) -> bool:
        """Whether the end of an actor would give room."""
        own = self._node.node_id
        return any(lease.key[0] == own and lease.request.resources for lease in self._node.leases.leases.values())
