"""The lender's half of lending: workers of this node for the homes of other nodes, at once or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ray.abc.scheduler import ResourceRequest
from ray.messages import cluster, codec
from ray.protocol.leases import Effect, LeaseTable
from ray.runtime.cluster.peering import Processes, Sender
from ray.runtime.process.timers import Timers

#: Workers that were promised and do not come to be ready in this time are not lent.
_READY_S = 3.0
#: The least time between two words on what is free here.
_SAY_S = 0.05
#: What is free here is said again so often.
_SAY_AGAIN_S = 2.0


class RemoteDriver:
    """Takes what is for the driver of a job of another node, as that driver would."""

    def __init__(self, home: Sender, job: str) -> None:
        self.id = b""
        self.job = job
        self.home = home

    def send(self, message: object) -> None:
        """Queue a message."""
        self.home.send(cluster.ToDriver(self.job, codec.encode(message)))


class LeaseLending:
    """Of one node manager."""

    def __init__(
        self,
        leases: LeaseTable,
        processes: Processes,
        timers: Timers,
        homes: Callable[[], Iterable[Sender]],
        apply: Callable[[list[Effect]], None],
    ) -> None:
        """Nothing is lent yet.

        Args:
            leases: of this node.
            processes: of this node.
            timers: of this node manager.
            homes: the node managers that are connected.
            apply: carries out what the lease table decides.
        """
        self._leases = leases
        self._processes = processes
        self._timers = timers
        self._homes = homes
        self._apply = apply
        self._said: dict[str, int] = {}
        self._armed = False
        timers.after(_SAY_AGAIN_S, self._say_again)

    def borrow(self, home: Sender, message: cluster.Borrow) -> None:
        """A home asks for workers: as many as there is room for are granted as they are ready."""
        request = ResourceRequest(message.resources, message.depth, message.priority)
        serves = self._processes.serves(message.job)
        if not serves:  # not yet: the home asks again when it hears that there is room, which is said once more then
            self._said = {}
        count = self._leases.room_for(request, message.count) if serves else 0
        if count < message.count:
            home.send(cluster.Refuse(message.number, message.count - count))
        if not count:
            return
        key = (home.id, message.number)
        self._apply(self._leases.demand(key, request, count, message.name, message.job, for_life=message.for_life))
        if key in self._leases.demands:
            self._timers.after(_READY_S, lambda: self._withdraw(home, message.number))

    def _withdraw(self, home: Sender, number: int) -> None:
        entry = self._leases.demands.get((home.id, number))
        if entry is not None:
            count = entry.count
            self._apply(self._leases.demand(entry.key, entry.request, 0))
            home.send(cluster.Refuse(number, count))

    def abandon(self, home: Sender, message: cluster.Abandon) -> None:
        """The owner of some leases has died."""
        for id in message.leases:
            lease = self._leases.leases.get(id)
            if lease is not None and lease.key[0] == home.id:
                self._processes.kill(lease.worker, message.reason)

    def adopt(self, home: Sender, message: cluster.AdoptJob) -> None:
        """A job of another node is to have workers here."""
        self._processes.adopt(message.job, message.config, home.id, RemoteDriver(home, message.job))

    # --- load ---------------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """What is free may have changed: homes are told soon."""
        if not self._armed and self._leases.resources.available() != self._said:
            self._armed = True
            self._timers.after(_SAY_S, self._say_change)

    def _say_change(self) -> None:
        self._armed = False
        self._say()

    def _say(self) -> None:
        self._said = dict(self._leases.resources.available())
        for home in self._homes():
            home.send(cluster.Load(self._said))

    def _say_again(self) -> None:
        """A home that was refused asks again when it hears this."""
        self._say()
        self._timers.after(_SAY_AGAIN_S, self._say_again)

    def greet(self) -> None:
        """A home is new: it is told soon."""
        self._said = {}
        self.changed()

    def lease_of(self, worker: bytes, own: bytes) -> bytes | None:
        """The home that a worker is lent to; None if it is not."""
        lease = self._leases.by_worker.get(worker)
        return None if lease is None or lease.key[0] == own else lease.key[0]
