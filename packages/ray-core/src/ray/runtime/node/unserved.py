"""Demands that no node can meet, as things are: who waits for them is told, and what can never be met fails."""

from __future__ import annotations

from collections.abc import Callable

from ray.clock import monotonic, wall_time
from ray.messages import node
from ray.protocol.leases import LeaseTable
from ray.protocol.placement import is_called
from ray.protocol.waiting import DemandEntry, DemandKey
from ray.runtime.cluster.absence import Absence
from ray.runtime.node.failures import NodeFailures
from ray.runtime.node.infeasible import lack_of
from ray.runtime.node.others import Elsewhere
from ray.runtime.process.timers import Timers

#: A node of which nothing is known may be one that has just joined, for so long.
NEW_NODE_S = 1.0


class UnservedDemands:
    """Of one node manager."""

    def __init__(
        self,
        leases: LeaseTable,
        others: Callable[[], Elsewhere],
        timers: Timers,
        failures: NodeFailures,
        tell: Callable[[DemandEntry, str, bool], None],
        *,
        alone: bool,
    ) -> None:
        """There are none yet.

        Args:
            leases: of this node.
            others: the other nodes.
            timers: of this node manager.
            failures: records what is said.
            tell: tells an owner what its demand lacks, and whether that is for ever: then it is one no more.
            alone: no other node can join.
        """
        self._leases = leases
        self._others = others
        self._timers = timers
        self._failures = failures
        self._tell = tell
        self._alone = alone
        #: {demand whose owner was told: what it lacks now}
        self._lacks: dict[DemandKey, str] = {}
        #: {demand for a node of which nothing is known: since when}
        self._unknown: dict[DemandKey, float] = {}

    def look_at_all(self) -> None:
        """Other nodes have come or gone."""
        demands = self._leases.demands
        self._unknown = {key: since for key, since in self._unknown.items() if key in demands}
        self._lacks = {key: lack for key, lack in self._lacks.items() if key in demands}
        for entry in list(demands.values()):
            if entry.infeasible and demands.get(entry.key) is entry:
                self.look_at(entry)

    def look_at(self, entry: DemandEntry) -> None:
        """This node can never serve a demand; others may."""
        request, placement = entry.request, entry.placement
        others = self._others()
        if others.could_serve(request, placement):
            self._unknown.pop(entry.key, None)
            return
        views = [self._leases.view(), *others.views()]
        lasts, cause = False, ""
        if placement is not None and placement.node and not placement.soft:
            wanted = [view for view in views if is_called(view, placement.node)]
            absence, cause = (Absence.AWAITED, "") if wanted else others.absence(placement.node)
            if absence is Absence.JOINS or (absence is Absence.UNKNOWN and self._may_be_new(entry)):
                return
            # What a number has, it has for ever; another node may take a name.
            lasts = absence in (Absence.UNKNOWN, Absence.OVER) or any(view.name != placement.node for view in wanted)
        lack = lack_of(request.resources, placement, views, cause, alone=self._alone)
        if lasts:
            self._unknown.pop(entry.key, None)
            if entry.for_life:  # perhaps nobody calls the actor, and is told by that
                self._record(entry, f"{lack}. It is dead.")
            self._tell(entry, lack, True)
            return
        self._lacks[entry.key] = lack
        if not entry.told:
            entry.told = True
            until = "As it is, it waits for ever" if self._alone else "It waits until a node joins that has it"
            self._record(entry, f"{lack}. {until}.")
            self._tell(entry, lack, False)

    def lack(self, entry: DemandEntry) -> str:
        """What a demand lacks whose owner was told so, as things are now: a predicate, or empty."""
        return self._lacks.get(entry.key, "")

    def _record(self, entry: DemandEntry, predicate: str) -> None:
        text = f"{entry.name or 'A task'} {predicate}"
        self._failures.record(entry.job, node.ErrorRecord("infeasible_task", text, wall_time(), function=entry.name))

    def _may_be_new(self, entry: DemandEntry) -> bool:
        """Whether the node that is wanted may have joined just now: then it is looked again."""
        now = monotonic()
        since = self._unknown.setdefault(entry.key, now)
        if now - since >= NEW_NODE_S:
            return False
        self._timers.after(since + NEW_NODE_S - now, self.look_at_all)
        return True
