"""Scheduler seam: a pure choice of a node for a request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What one lease needs. Amounts are fixed-point integers: 1 CPU is 10_000."""

    resources: Mapping[str, int]
    depth: int = 0
    """How many tasks deep the asker is: deeper ones go first, so that nesting cannot fill the machine."""
    priority: int = 0
    spread: bool = False
    """The asker wants its work spread over the nodes, whatever the policy prefers."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a policy may know of a node: fixed-point totals and what is free now (free may be negative)."""

    node_id: bytes
    total: Mapping[str, int]
    available: Mapping[str, int]
    is_local: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    leased: int = 0
    """Workers that the asking node has there; they may hold nothing."""


class SchedulerPolicy(ABC):
    """Chooses nodes. Pure: no clock, I/O or randomness of its own; the same input gives the same answer."""

    name: str

    @abstractmethod
    def choose(self, request: ResourceRequest, nodes: Sequence[NodeView]) -> bytes | None:
        """The node that should serve ``request`` now, or None if none has room. Called per grant, not per task.

        ``nodes`` are those that the asker allows: what it says of names and labels is seen to already.
        """
