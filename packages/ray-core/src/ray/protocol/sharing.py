"""How the jobs of a node share what is scarce: one that has less takes a worker at a time from the one with most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

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
