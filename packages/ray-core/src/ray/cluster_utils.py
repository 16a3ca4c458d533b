"""The name by which programs of other releases know ``ray.testing.cluster``."""

from __future__ import annotations

from ray.testing.cluster import Cluster, ClusterNode

__all__ = ["Cluster", "ClusterNode"]
