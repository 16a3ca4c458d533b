"""What the parts of a node manager ask of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ray.protocol import leases


class NodeDesk(Protocol):
    """Implemented by the node manager."""

    def apply(self, effects: Sequence[leases.Effect]) -> None:
        """Carry out what the lease table decided."""

    def actor_died(self, job: str) -> None:
        """An actor of that job is dead; it may have been the last that kept the job."""

    def look_at_infeasible(self) -> None:
        """A node has come or gone, perhaps the only one for some demands: their owners are told if none is left."""

    def attend(self) -> None:
        """Somebody may have to wait for a worker."""
