"""What waits for workers in the whole cluster: each node manager asks all others, when somebody wants to know."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ray.messages import cluster
from ray.messages.cluster import DemandRow
from ray.runtime.cluster.members import Member, Members
from ray.runtime.cluster.peering import Sender
from ray.runtime.process.timers import Timers

#: Nodes that do not answer in this time are left out.
PATIENCE_S = 1.0


class _Asked(msgspec.Struct):
    """A question that is under way."""

    on_rows: Callable[[list[DemandRow]], None]
    rows: list[DemandRow]
    #: Nodes that have not answered.
    left: set[bytes] = msgspec.field(default_factory=set)


class Survey:
    """Of one node manager. Implements ``Surveying``."""

    def __init__(self, members: Members, timers: Timers, own: Callable[[], list[DemandRow]]) -> None:
        """Nothing was asked yet.

        Args:
            members: the other nodes.
            timers: of this node manager.
            own: what waits here.
        """
        self._members = members
        self._timers = timers
        self._own = own
        self._last = 0
        self._asked: dict[int, _Asked] = {}

    def tell(self, client: Sender, message: cluster.AskDemands) -> None:
        """Another node manager asks what waits here."""
        client.send(cluster.Demands(message.number, self._own()))

    def ask(self, on_rows: Callable[[list[DemandRow]], None]) -> None:
        """See ``Surveying``."""
        self._last += 1
        number = self._last
        asked = self._asked[number] = _Asked(on_rows, self._own())
        for member in self._members.members.values():
            if member.stands:
                asked.left.add(member.node)
                member.send(cluster.AskDemands(number))
        if asked.left:
            self._timers.after(PATIENCE_S, lambda: self._answer(number))
        else:
            self._answer(number)

    def heard(self, member: Member, message: cluster.Demands) -> None:
        """Another node manager says what waits there."""
        asked = self._asked.get(message.number)
        if asked is None or member.node not in asked.left:
            return
        asked.rows += message.rows
        asked.left.discard(member.node)
        if not asked.left:
            self._answer(message.number)

    def _answer(self, number: int) -> None:
        asked = self._asked.pop(number, None)
        if asked is not None:
            asked.on_rows(asked.rows)
