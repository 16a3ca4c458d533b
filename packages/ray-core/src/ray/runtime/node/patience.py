"""What the node manager does about owners that wait long for a worker, while others use or hold what they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ray.clock import monotonic, wall_time
from ray.messages import node
from ray.protocol.leases import LeaseTable
from ray.runtime.node.client import Client
from ray.runtime.node.desk import NodeDesk
from ray.runtime.node.failures import NodeFailures
from ray.runtime.node.held import HELD, held_by_actors
from ray.runtime.node.jobs import Jobs
from ray.runtime.process.timers import Timers

if TYPE_CHECKING:
    from ray.protocol.waiting import DemandKey

#: An owner that has waited for this long has waited long.
LONG_S = 1.0
#: The pauses between two appeals double up to this, while anybody waits.
MAX_PAUSE_S = 60.0
#: An owner that waits for so long for the end of an actor is told, and again while that lasts.
TELL_S = 5.0
TELL_AGAIN_S = 4.0
RECORD_AGAIN_S = 60.0


class NodePatience:
    """Has every process let go of what it only seems to hold.

    A handle in a cycle of references keeps its actor, and what that holds, until the interpreter looks for cycles. It
    does so when it has made many objects, but a process that waits makes none.
    """

    def __init__(
        self,
        desk: NodeDesk,
        leases: LeaseTable,
        clients: Mapping[bytes, Client],
        timers: Timers,
        class_of: Callable[[bytes], str],
        failures: NodeFailures,
        jobs: Jobs,
    ) -> None:
        """``class_of``: the class of the actor that a worker is."""
        self._desk = desk
        self._leases = leases
        self._clients = clients
        self._timers = timers
        self._class_of = class_of
        self._failures = failures
        self._jobs = jobs
        self._armed = False
        #: {demand: its turn, which changes with every grant, and since when it has been that}
        self._seen: dict[DemandKey, tuple[int, float]] = {}
        #: The pause after the next appeal, and its time.
        self._pause_s, self._next = LONG_S, 0.0
        #: When drivers are told again what is waited for, and when it is recorded again.
        self._tell = self._record = 0.0

    def attend(self) -> None:
        """Somebody may have to wait."""
        if not self._armed and self._leases.demands:
            self._armed = True
            self._timers.after(LONG_S / 2, self._look)

    def _look(self) -> None:
        self._armed = False
        now, seen = monotonic(), self._seen
        self._seen = {}
        for key, entry in self._leases.demands.items():
            if entry.infeasible:
                continue
            turn, since = seen.get(key, (entry.turn, now))
            self._seen[key] = (turn, since) if turn == entry.turn else (entry.turn, now)
        if all(now - since < LONG_S for _, since in self._seen.values()):
            self._pause_s, self._next = LONG_S, 0.0
        elif now >= self._next and self._actors_hold():
            for client in self._clients.values():
                client.send(node.Collect())
            self._next = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
        if now >= self._tell:
            self._tell_of_actors(now)
        self._desk.apply(self._leases.tick(now))
        self.attend()

    def _tell_of_actors(self, now: float) -> None:
        """An owner that waits for actors alone may wait for ever: drivers say it once, and in errors while it lasts."""
        leases = self._leases
        long = [key for key, (_, since) in self._seen.items() if now - since >= TELL_S]
        if not long:
            return
        held = [lease for lease in leases.leases.values() if lease.for_life]
        holders = [(self._class_of(lease.worker), lease.request.resources) for lease in held]
        total = leases.resources.total()
        for key in long:
            entry = leases.demands[key]
            text = held_by_actors(entry.name, entry.request.resources, total, holders)
            if text:
                self._tell = now + TELL_AGAIN_S
                record = node.ErrorRecord(HELD, text, wall_time(), function=entry.name)
                if now >= self._record:
                    self._record = now + RECORD_AGAIN_S
                    self._failures.record(entry.job, record, print_it=False)
                self._jobs.tell(entry.job, node.RecordError(record))
                return

    def _actors_hold(self) -> bool:
        """Whether the end of an actor would give room."""
        return any(lease.for_life and lease.request.resources for lease in self._leases.leases.values())
