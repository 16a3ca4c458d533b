"""What waits for workers at one node manager, and why: owners wait at that of their node, wherever they are served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ray.clock import monotonic
from ray.ids import node_of
from ray.messages.cluster import DemandRow
from ray.protocol.leases import LeaseTable
from ray.protocol.waiting import DemandEntry

#: Kinds of demands that a node manager tells of.
_MOST = 100


class Surveying(Protocol):
    """Finds out what waits for workers."""

    def ask(self, on_rows: Callable[[list[DemandRow]], None]) -> None:
        """Have ``on_rows`` called, perhaps later, with what waits on all nodes that answer."""


class OwnDemands:
    """Of one node manager. Implements ``Surveying`` for one that is alone."""

    def __init__(self, leases: LeaseTable, lack: Callable[[DemandEntry], str]) -> None:
        """Make the part.

        Args:
            leases: of this node.
            lack: what no node has of that which a demand wants: a predicate, or empty.
        """
        self._leases = leases
        self._lack = lack

    def ask(self, on_rows: Callable[[list[DemandRow]], None]) -> None:
        """See ``Surveying``."""
        on_rows(self.rows())

    def rows(self) -> list[DemandRow]:
        """Demands of one kind together; what other node managers ask for on behalf of their owners, they tell of."""
        kinds: dict[tuple[str, str, tuple[tuple[str, int], ...], str], tuple[int, float]] = {}
        now = monotonic()
        for entry in self._leases.demands.values():
            if entry.on_loan:
                continue
            waited_s = 0.0 if entry.since is None else now - entry.since
            for count, reason in self._waiting(entry):
                kind = entry.job, entry.name, tuple(sorted(entry.request.resources.items())), reason
                before, longest_s = kinds.get(kind, (0, 0.0))
                kinds[kind] = before + count, max(longest_s, waited_s)
        home = node_of(self._leases.node_id).hex()
        return [
            DemandRow(home, job, name, dict(needs), count, reason, int(waited_s * 1000))
            for (job, name, needs, reason), (count, waited_s) in list(kinds.items())[:_MOST]
        ]

    def _waiting(self, entry: DemandEntry) -> Iterator[tuple[int, str]]:
        """For how many workers a demand waits, for each reason."""
        if entry.placed:
            yield min(entry.placed, entry.count), "workers are starting for it"
        count = entry.count - entry.placed
        if count > 0:
            lack = self._lack(entry) if entry.told else ""
            elsewhere = "what it needs is in use where it may run" if entry.infeasible else "what it needs is in use"
            yield count, lack or elsewhere
