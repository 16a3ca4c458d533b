"""The lender's half of lending: workers of this node for the homes of other nodes, at once or not at all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from ray.abc.scheduler import ResourceRequest
from ray.clock import monotonic
from ray.messages import cluster, codec
from ray.protocol.leases import Effect, Grant, LeaseTable, RevokeLease
from ray.protocol.offers import HOLD_S, OfferTable
from ray.protocol.waiting import DemandKey
from ray.runtime.cluster.peering import Processes, Sender
from ray.runtime.process.timers import Timers

#: Workers that were promised and do not come to be ready in this time are not lent.
_READY_S = 3.0
#: Questions are remembered for so long, so that one which comes twice is not answered twice.
_REMEMBERED_S = 60.0
#: Leases of which their home knows nothing end after this time.
_UNKNOWN_S = 2.0
#: The least time between two words on what is free here.
_SAY_S = 0.05
#: What is free here is said again after this time to homes that have asked.
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
        #: Of what jobs of other homes give back, to those that claim it.
        self._offers = OfferTable(leases)
        self._said: dict[str, int] = {}
        self._armed = False
        #: Ids of homes that have asked since: they reckon by themselves what is left here.
        self._asked: set[bytes] = set()
        #: {(home, number of a question): until when it is remembered}, oldest first
        self._answered: dict[DemandKey, float] = {}
        #: Of those whose last question was refused, at least in part: they may be waiting for a word.
        self._refused: set[bytes] = set()
        #: {home: the last list of leases that it was told of and has not compared with its own, and the list's number}
        self._compared: dict[bytes, tuple[int, list[bytes]]] = {}
        self._lists = 0
        timers.after(_SAY_AGAIN_S, self._say_again)

    def borrow(self, home: Sender, message: cluster.Borrow) -> None:
        """A home asks for workers: as many as there is room for are granted as they are ready."""
        self._asked.add(home.id)
        key = (home.id, message.number)
        if key in self._answered:
            self._answer_again(home, message)
            return
        offered = self._offers.take(home.id, message.job, message.resources, message.count, for_life=message.for_life)
        if not message.count:  # it wants none any more
            if offered:
                self._apply(self._leases.schedule())
            return
        self._answered[key] = monotonic() + _REMEMBERED_S
        request = ResourceRequest(message.resources, message.depth, message.priority)
        serves = self._processes.serves(message.job)
        if not serves:  # not yet: the home asks again when it hears that there is room, which is said once more then
            self._said = {}
        count = self._leases.room_for(request, message.count) if serves else 0
        if count < message.count:
            self._refused.add(home.id)
            home.send(cluster.Refuse(message.number, message.count - count))
        else:
            self._refused.discard(home.id)
        if not count:
            if offered:  # an owner of this node has come to wait
                self._apply(self._leases.schedule())
            elif message.claims and serves:
                self._apply(
                    self._offers.claim(
                        home.id,
                        message.job,
                        request,
                        message.count,
                        for_life=message.for_life,
                        has_none=message.has_none,
                    )
                )
            return
        self._apply(
            self._leases.demand(key, request, count, message.name, message.job, for_life=message.for_life, on_loan=True)
        )
        if key in self._leases.demands:
            self._timers.after(_READY_S, lambda: self._withdraw(home, message.number))

    def _answer_again(self, home: Sender, message: cluster.Borrow) -> None:
        """A question has come once more: what is lent for it now is said again, and the rest is not lent."""
        key = (home.id, message.number)
        lent = [lease for lease in self._leases.leases.values() if lease.key == key]
        entry = self._leases.demands.get(key)
        left = message.count - len(lent) - (0 if entry is None else entry.count)
        self._apply([Grant(lease) for lease in lent])
        if left > 0:
            home.send(cluster.Refuse(message.number, left))

    def _withdraw(self, home: Sender, number: int) -> None:
        entry = self._leases.demands.get((home.id, number))
        if entry is not None:
            count = entry.count
            self._apply(self._leases.demand(entry.key, entry.request, 0))
            self._refused.add(home.id)
            home.send(cluster.Refuse(number, count))

    def abandon(self, home: Sender, message: cluster.Abandon) -> None:
        """The owner of some leases has died."""
        for id in message.leases:
            lease = self._leases.leases.get(id)
            if lease is not None and lease.key[0] == home.id:
                self._processes.kill(lease.worker, message.reason)

    # --- new connections ----------------------------------------------------------------------------------------------

    def meet(self, home: Sender) -> None:
        """A home is new, or there again; what was said to it before has been repeated."""
        lent = [lease.id for lease in self._leases.leases.values() if lease.key[0] == home.id]
        self._lists += 1
        self._compared[home.id] = self._lists, lent
        home.send(cluster.LeasesLent(lent, self._lists))
        self.greet()

    def compare(self, home: Sender, message: cluster.LeasesHeld) -> None:
        """It says which of these leases it has: the others, of which nobody knows, end soon.

        What it was to give back it is asked for again, as that word may have been lost.
        """
        number, lent = self._compared.get(home.id, (0, []))
        if message.number != number:
            return  # the answer to a later list is under way
        self._compared.pop(home.id, None)
        revoked = [lease for lease in self._leases.leases.values() if lease.revoked and lease.key[0] == home.id]
        self._apply([RevokeLease(lease) for lease in revoked if lease.id in message.leases])
        unknown = set(lent).difference(message.leases)
        if unknown:
            self._timers.after(_UNKNOWN_S, lambda: self._end(home.id, unknown))

    def _end(self, home: bytes, unknown: Collection[bytes]) -> None:
        for id in unknown:
            lease = self._leases.leases.get(id)
            if lease is not None and lease.key[0] == home:  # nobody knows what it runs
                self._processes.kill(lease.worker, "the node manager that has borrowed it knows nothing of it")

    def adopt(self, home: Sender, message: cluster.AdoptJob) -> None:
        """A job of another node is to have workers here."""
        self._processes.adopt(message.job, message.config, home.id, RemoteDriver(home, message.job))

    # --- offers -------------------------------------------------------------------------------------------------------

    def _offer(self) -> None:
        """What was taken back for homes may have come."""
        before = len(self._offers.offers)
        for offer in self._offers.look(monotonic()):
            home = next((home for home in self._homes() if home.id == offer.home), None)
            if home is None:
                self._offers.drop(offer)
                continue
            home.send(cluster.Offer(offer.job, dict(offer.request.resources), offer.for_life))
            self._timers.after(HOLD_S, self._expire)
        if len(self._offers.offers) < before:  # what was held for one is free
            self._apply(self._leases.schedule())

    def validate(self) -> None:
        """Check what is held for offers.

        Raises:
            AssertionError: something does not hold.
        """
        self._offers.validate()

    def _expire(self) -> None:
        if self._offers.expire(monotonic()):
            self._apply(self._leases.schedule())

    # --- load ---------------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """What is free may have changed: homes are told soon."""
        self._offer()
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
        """A home that was refused asks again when it hears this. To tell all would cost the square of the nodes."""
        now = monotonic()
        while self._answered and next(iter(self._answered.values())) <= now:
            del self._answered[next(iter(self._answered))]
        told = self._asked | self._refused
        self._asked.clear()
        homes = {home.id: home for home in self._homes()} if told or self._compared else {}
        self._refused &= homes.keys()
        for gone in self._compared.keys() - homes.keys():
            del self._compared[gone]
        free = dict(self._leases.resources.available())
        for id in sorted(told & homes.keys()):
            homes[id].send(cluster.Load(free))
            if free != self._said:
                self._said = {}  # it is told of the next change, also of one back to what all were told
        self._timers.after(_SAY_AGAIN_S, self._say_again)

    def greet(self) -> None:
        """A home is new: it is told soon."""
        self._said = {}
        self.changed()

    def lease_of(self, worker: bytes, own: bytes) -> bytes | None:
        """The home that a worker is lent to; None if it is not."""
        lease = self._leases.by_worker.get(worker)
        return None if lease is None or lease.key[0] == own else lease.key[0]
