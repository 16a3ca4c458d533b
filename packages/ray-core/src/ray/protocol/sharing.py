"""How the jobs of a node share what is scarce: one that has less takes a worker at a time from the one with most.

``to_take`` is for an owner that waits at the node, ``to_hand_on`` for one that waits at another one, its home.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from ray.abc.scheduler import ResourceRequest
from ray.protocol.waiting import DemandEntry


class Held(Protocol):
    """A lease, as far as it matters here."""

    @property
    def key(self) -> tuple[bytes, int]: ...
    @property
    def request(self) -> ResourceRequest: ...
    @property
    def job(self) -> str: ...
    @property
    def for_life(self) -> bool: ...
    @property
    def on_loan(self) -> bool: ...
    @property
    def revoked(self) -> bool: ...
    @property
    def blocked(self) -> bool: ...


Lease = TypeVar("Lease", bound=Held)


def helps(resources: Mapping[str, int], lacking: set[str]) -> bool:
    """Whether the end of a lease with ``resources`` gives room to an owner that lacks some, or needs none at all."""
    return not lacking.isdisjoint(resources) if lacking else not resources


def to_take(
    entry: DemandEntry, leases: Iterable[Lease], demands: Iterable[DemandEntry], lacking: set[str]
) -> Lease | None:
    """The lease that is to be given back for ``entry``, so that the jobs come nearer to each other.

    What other nodes were lent is what was to spare, and is taken back first. Then it ends when two jobs have as much,
    or one has one more: so nothing goes to and fro. Deeper tasks keep theirs, as others wait for them.

    Args:
        entry: an owner that has a worker, and waits for another one.
        leases: of the node.
        demands: on it.
        lacking: what there is not enough of.
    """
    held: dict[str, list[Lease]] = {entry.job: []}
    for lease in leases:
        if not (lease.for_life or lease.blocked or lease.revoked) and helps(lease.request.resources, lacking):
            held.setdefault(lease.job, []).append(lease)
    if not entry.on_loan:
        for job, leases_of_job in held.items():
            for lease in reversed(leases_of_job):
                if lease.on_loan and job != entry.job and lease.request.depth <= entry.request.depth:
                    return lease
    coming = sum(each.revoked for each in demands if each.job == entry.job)
    most = max(held.values(), key=len)
    if len(most) < len(held[entry.job]) + coming + 2:
        return None
    of_owner: dict[bytes, list[Lease]] = {}
    for lease in most:
        if lease.request.depth <= entry.request.depth:
            of_owner.setdefault(lease.key[0], []).append(lease)
    return max(of_owner.values(), key=len)[-1] if of_owner else None


class Claim(msgspec.Struct, frozen=True):
    """A home wants workers of a kind, for which no node has room."""

    job: str
    request: ResourceRequest
    count: int
    #: Workers that the job gets here already: they count as if it had them.
    coming: int = 0
    for_life: bool = False
    #: The job has no worker for tasks on any node, and none is coming.
    has_none: bool = False


def to_hand_on(claim: Claim, leases: Iterable[Lease], free: Mapping[str, int]) -> list[list[Lease]]:
    """The leases that are to be given back for a claim: a list of them for each worker that it gets.

    Only what is on loan is taken, as nothing else is to spare, and not from deeper tasks, as others wait for them. It
    ends when two jobs have as much, or one has one more: so nothing goes to and fro. Only a job that has none at all
    gets one where others have one, and so on in turn. Actors count as well, and give nothing back; they get what tasks
    have, as they do on one machine, and those of their own job first.

    Args:
        claim: what is wanted.
        leases: of the node.
        free: what no lease holds.
    """
    needed = {name: amount for name, amount in claim.request.resources.items() if amount > 0}
    room = Counter(free)
    lacking = _lacking(needed, room)
    counts = Counter({claim.job: claim.coming})
    held: dict[str, list[Lease]] = {}
    has_none = claim.has_none
    for lease in leases:
        has_none = has_none and (lease.job != claim.job or lease.for_life)  # its home may not know of it yet
        if lease.blocked or lease.revoked or not helps(lease.request.resources, lacking):
            continue
        counts[lease.job] += 1
        is_own = lease.job == claim.job and not claim.for_life
        if lease.on_loan and not (is_own or lease.for_life) and lease.request.depth <= claim.request.depth:
            held.setdefault(lease.job, []).append(lease)
    found: list[list[Lease]] = []
    while len(found) < claim.count and held:
        most = claim.job if held.get(claim.job) else max(held, key=lambda job: counts[job])
        taken = _enough(needed, room, held[most])
        if not taken:
            del held[most]
            continue
        left, own = counts[most] - len(taken), counts[claim.job]
        if not (claim.for_life or left > own or has_none):
            break
        has_none = False
        found.append(taken)
        counts.update({claim.job: 1, most: -len(taken)})
        room.subtract(needed)
        for lease in taken:
            held[most].remove(lease)
            room.update(lease.request.resources)
        if not held[most]:
            del held[most]
    return found


def _lacking(needed: Mapping[str, int], room: Mapping[str, int]) -> set[str]:
    return {name for name, amount in needed.items() if room.get(name, 0) < amount}


def _enough(needed: Mapping[str, int], room: Mapping[str, int], leases: Sequence[Lease]) -> list[Lease]:
    """The newest of these whose end gives room to one worker; none if there is room, or all are too little."""
    room = Counter(room)
    found: list[Lease] = []
    lacking = _lacking(needed, room)
    for lease in reversed(leases):
        if helps(lease.request.resources, lacking):
            found.append(lease)
            room.update(lease.request.resources)
            lacking = _lacking(needed, room)
            if not lacking:
                return found
    return []
