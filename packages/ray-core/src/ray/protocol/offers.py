"""What a lender takes from one job for another: a pure machine.

A home for whose job no node has room asks nodes to share what they have lent. A lender to whom it is due has leases of
the job with most given back when their tasks have ended, and remembers for whom. What becomes free is not lent to
others at once, as the home that gave it back may be the first to ask: it is held for a moment, and offered to the home
that has claimed it. That one asks for it as for any other room, or wants it no more. Nothing waits here: an offer that
comes to nothing costs a moment, and the home claims again.

Invariants (``validate``):
- an offer that was not made yet waits for leases;
- one that was made holds what it is for, until a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from ray.abc.scheduler import ResourceRequest
from ray.protocol import sharing
from ray.protocol.leases import Effect, Lease, LeaseTable
from ray.protocol.resources import Allocation

#: What was offered is held for so long.
HOLD_S = 0.5


class Offer(msgspec.Struct, eq=False):
    """Room for one worker."""

    home: bytes
    job: str
    request: ResourceRequest
    for_life: bool
    #: {id: lease of another job} that is to end first
    leases: dict[bytes, Lease]
    #: What is free for it by now.
    held: list[Allocation] = msgspec.field(default_factory=list)
    #: When it is over; None: it was not made yet.
    until: float | None = None

    @property
    def is_blocked(self) -> bool:
        """A task waits for others, maybe for long, and its processor is free: nobody waits for its end."""
        return any(lease.blocked for lease in self.leases.values())


class OfferTable:
    """Of one lender."""

    def __init__(self, leases: LeaseTable) -> None:
        self._table = leases
        self.offers: list[Offer] = []

    def claim(
        self, home: bytes, job: str, request: ResourceRequest, count: int, *, for_life: bool, has_none: bool
    ) -> list[Effect]:
        """A home wants up to ``count`` workers of this kind out of what other jobs have here; see ``sharing``."""
        table = self._table
        if table.own_wait(request):
            return []
        #: {whether for actors: workers that are to come}
        coming = Counter(offer.for_life for offer in self.offers if offer.job == job and not offer.is_blocked)
        for entry in table.demands.values():
            if entry.on_loan and entry.job == job:
                coming[entry.for_life] += entry.count
        groups = sharing.to_hand_on(
            sharing.Claim(
                job, request, count - coming[for_life], coming.total(), for_life, has_none and not coming[False]
            ),
            table.leases.values(),
            table.resources.available(),
        )
        effects: list[Effect] = []
        for leases in groups:
            self.offers.append(Offer(home, job, request, for_life, {lease.id: lease for lease in leases}))
            for lease in leases:
                effects += table.take_back(lease)
        return effects

    def look(self, now: float) -> list[Offer]:
        """Leases may have ended: hold what is free now, and return the offers that are to be made."""
        made: list[Offer] = []
        if not self.offers:
            return made
        for offer in [offer for offer in self.offers if offer.until is None]:
            if offer.is_blocked:
                self.drop(offer)
                continue
            for id in [id for id in offer.leases if id not in self._table.leases]:
                self._hold(offer, offer.leases.pop(id).request.resources)
            if offer.leases:
                continue
            self._let_go(offer)
            whole = self._table.resources.try_acquire(offer.request.resources)
            if whole is None:  # others had it first
                self.drop(offer)
                continue
            offer.held, offer.until = [whole], now + HOLD_S
            made.append(offer)
        return made

    def take(self, home: bytes, job: str, resources: Mapping[str, int], count: int, *, for_life: bool) -> bool:
        """The home answers: what it was offered is free from now on. Returns whether it was offered anything."""
        made = [
            offer
            for offer in self.offers
            if offer.until is not None
            and (offer.home, offer.job, offer.for_life) == (home, job, for_life)
            and offer.request.resources == resources
        ][: max(1, count)]
        for offer in made:
            self.drop(offer)
        return bool(made)

    def expire(self, now: float) -> bool:
        """Time has come so far; returns whether anything is free now that was held."""
        over = [offer for offer in self.offers if offer.until is not None and offer.until <= now]
        for offer in over:
            self.drop(offer)
        return bool(over)

    def drop(self, offer: Offer) -> None:
        """Nothing is held for it any more."""
        self._let_go(offer)
        self.offers.remove(offer)

    def _hold(self, offer: Offer, freed: Mapping[str, int]) -> None:
        """Until all that it waits for has ended, others are not to have what is free of it."""
        needed = {name: min(amount, freed.get(name, 0)) for name, amount in offer.request.resources.items()}
        part = self._table.resources.try_acquire(needed)
        if part is not None:
            offer.held.append(part)

    def _let_go(self, offer: Offer) -> None:
        while offer.held:
            self._table.resources.release(offer.held.pop())

    def validate(self) -> None:
        """Check the invariants.

        Raises:
            AssertionError: one does not hold.
        """
        for offer in self.offers:
            if offer.until is None:
                assert offer.leases, offer
            else:
                assert not offer.leases, offer
                assert [part.held for part in offer.held] == [True], offer
