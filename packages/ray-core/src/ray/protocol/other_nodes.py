"""What a node's lease table knows of other nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ray.abc.scheduler import NodeView
from ray.protocol.waiting import DemandEntry, DemandKey


class OtherNodes(Protocol):
    """Where the owners that wait at a node may be served as well."""

    @property
    def nodes(self) -> Mapping[bytes, NodeView]:
        """What is known of each, by its number."""

    def asked(self, key: DemandKey) -> int:
        """How many workers others were asked for just now, for a demand."""

    def keeps(self, entry: DemandEntry) -> bool:
        """Whether a demand waits for the node that it prefers, so that this one is not to serve it."""


class NoOtherNodes:
    """A node that is alone."""

    nodes: Mapping[bytes, NodeView] = {}

    def asked(self, key: DemandKey) -> int:
        """See ``OtherNodes``."""
        return 0

    def keeps(self, entry: DemandEntry) -> bool:
        """See ``OtherNodes``."""
        return False
