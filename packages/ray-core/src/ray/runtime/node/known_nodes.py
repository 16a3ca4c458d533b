"""What a node manager of a cluster can say of the other nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ray.abc.scheduler import NodeView, ResourceRequest
from ray.messages.cluster import NodeRecord
from ray.messages.placement import Placement
from ray.protocol.lending import LendingTable
from ray.runtime.cluster.absence import Absence
from ray.runtime.cluster.belonging import Belonging
from ray.runtime.process.hardware import node_row


class KnownNodes:
    """Implements ``Elsewhere``."""

    def __init__(self, belonging: Belonging, lent: LendingTable, transfers: Callable[[], Mapping[str, int]]) -> None:
        """Make it.

        Args:
            belonging: this node's place among the others.
            lent: what they lend.
            transfers: what was brought here from their stores.
        """
        self._belonging = belonging
        self._lent = lent
        self.transfers = transfers

    def could_serve(self, request: ResourceRequest, placement: Placement | None) -> bool:
        """See ``Elsewhere``."""
        return self._lent.could_serve(request, placement)

    def views(self) -> Sequence[NodeView]:
        """See ``Elsewhere``."""
        return tuple(self._lent.nodes.values())

    def absence(self, name: str) -> tuple[Absence, str]:
        """See ``Elsewhere``."""
        return self._belonging.absence(name)

    def rows(self) -> list[dict[str, Any]]:
        """See ``Elsewhere``."""
        gone = [{**_row(record), "Alive": False} for record in self._belonging.gone]
        return [*map(_row, self._belonging.others), *gone]

    def total(self) -> Mapping[str, int]:
        """See ``Elsewhere``."""
        return _sum(view.total for view in self._lent.nodes.values())

    def available(self) -> Mapping[str, int]:
        """See ``Elsewhere``."""
        return _sum(view.available for view in self._lent.nodes.values())

    def director(self) -> tuple[str, bool]:
        """See ``Elsewhere``."""
        return f"{self._belonging.director_number:08x}", self._belonging.hears_director


def _row(record: NodeRecord) -> dict[str, Any]:
    return node_row(record.node_id, record.host, record.hostname, record.pid, record.total, record.name, record.labels)


def _sum(amounts: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for each in amounts:
        total.update(each)
    return total
