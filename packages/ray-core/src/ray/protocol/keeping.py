"""Room kept for owners that have waited long: what becomes free is not given to others that need less.

Without that, an owner of two-processor tasks waits for ever where others use one each, again and again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

from ray.protocol.resources import CPU, Allocation
from ray.protocol.waiting import DemandEntry, DemandKey

#: An owner that has waited for this long without a worker has room kept.
PATIENCE_S = 2.0


class Held(Protocol):
    """What is asked of a lease."""

    @property
    def for_life(self) -> bool:
        """It is an actor's."""

    @property
    def allocation(self) -> Allocation:
        """What it holds."""

    @property
    def blocked(self) -> bool:
        """Its CPU is lent to others."""


def grow_old(entries: Iterable[DemandEntry], holders: Mapping[DemandKey, int], now: float) -> bool:
    """Note how long entries have waited by now; returns whether another one has waited long."""
    changed = False
    for entry in entries:
        if entry.infeasible or entry.key in holders:
            entry.since, entry.overdue = None, False
        elif entry.since is None:
            entry.since = now
        elif not entry.overdue and now - entry.since >= PATIENCE_S:
            entry.overdue = changed = True
    return changed


def comes_free(needed: Mapping[str, int], free: Mapping[str, int], leases: Iterable[Held]) -> bool:
    """Whether there is room for ``needed`` when what runs has ended; actors do not end."""
    total = Counter(free)
    for lease in leases:
        if not lease.for_life:
            total.update(_holds(lease))
    return all(total[name] >= amount for name, amount in needed.items())


def _holds(lease: Held) -> dict[str, int]:
    lent = CPU if lease.blocked else None
    return {name: amount for name, amount in lease.allocation.resources.items() if name != lent}


def to_keep(needed: Mapping[str, int], free: Mapping[str, int]) -> Mapping[str, int]:
    """What of ``needed`` is kept: no CPU that would idle until something else is free, which may be long in coming."""
    rest = {name: amount for name, amount in needed.items() if name != CPU}
    return rest if any(free.get(name, 0) < amount for name, amount in rest.items()) else needed


def leaves(needed: Mapping[str, int], free: Mapping[str, int], kept: Mapping[str, int]) -> bool:
    """Whether ``needed`` can be given from what is free without touching what is kept."""
    return all(free.get(name, 0) - amount >= kept.get(name, 0) for name, amount in needed.items() if amount)
