"""Kinds of work for which no node has room, and which nodes are asked next to share what they have lent: pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias

from ray.messages.placement import Placement
from ray.protocol.waiting import Shape

#: A kind has been short for so long before it claims, and claims again after so long.
CLAIM_S = 0.5
AGAIN_S = 1.0
#: Nodes that are asked at a time for a kind.
MOST_CLAIMS = 4

Kind: TypeAlias = tuple[str, bool, Shape, Placement | None]
"""(job, whether it is actors, needs, where it may run)."""


class Shortages:
    """Of one home."""

    def __init__(self) -> None:
        #: {kind: when it may claim}
        self._due: dict[Kind, float] = {}
        #: {kind: the node that it has asked last}
        self._last: dict[Kind, bytes] = {}

    def __bool__(self) -> bool:
        """Whether anything is noted that ``due`` has to forget in time."""
        return bool(self._due)

    def due(self, short: Collection[Kind], now: float) -> list[Kind]:
        """Note which kinds are short by now, and return those that may claim."""
        if short or self._due:
            self._due = {kind: self._due.get(kind, now + CLAIM_S) for kind in short}
            self._last = {kind: last for kind, last in self._last.items() if kind in self._due}
        found = [kind for kind, at in self._due.items() if at <= now]
        for kind in found:
            self._due[kind] = now + AGAIN_S
        return found

    def share(self, kind: Kind, nodes: Sequence[bytes], missing: int) -> dict[bytes, int]:
        """How many workers each of some nodes is asked for: one node after another has its turn."""
        last = self._last.get(kind, b"")
        turns = sorted(nodes, key=lambda node: (node <= last, node))[: min(MOST_CLAIMS, missing)]
        if turns:
            self._last[kind] = turns[-1]
        return {node: -(-missing // len(turns)) for node in turns}
