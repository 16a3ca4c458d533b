"""What the parts of a node manager ask of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ray.messages import node
from ray.protocol import leases


class NodeDesk(Protocol):
    """Implemented by the node manager."""

    def apply(self, effects: Sequence[leases.Effect]) -> None:
        """Carry out what the lease table decided."""

    def attend(self) -> None:
        """Somebody may have to wait for a worker."""

    def record_error(self, record: node.ErrorRecord, *, print_it: bool = True) -> None:
        """Keep a failure for ``ray.error_info``; the drivers print what this process found itself."""

    def report_failed_start(self, cause: node.ExitCause) -> None:
        """Record that a worker has ended before it came to what it was wanted for."""

    def tell_drivers(self, message: Any) -> None:
        """Send something to every driver."""
