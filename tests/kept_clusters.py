"""A cluster that the tests of a file have one after the other, as long as they leave it as it was."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

import pytest

from ray.testing import eventually, leaks
from ray.testing.cluster import Cluster

_LIMIT_S = 30


class KeptCluster:
    """One at most. Not thread-safe."""

    def __init__(self) -> None:
        self._before = leaks.snapshot()
        self._cluster: Cluster | None = None
        self._kind: Hashable = None
        self._nodes: list[int] = []

    def take(self, kind: Hashable, make: Callable[[], Cluster]) -> Cluster:
        """The one that there is, if it is of that kind, or a new one."""
        if self._cluster is None or self._kind != kind:
            self.end()
            self._cluster, self._kind = make(), kind
            self._nodes = self._pids()
        return self._cluster

    def give_back(self) -> None:
        """A test has ended: nothing of it may be left on any node; if it has changed the nodes, these end as well."""
        cluster = self._cluster
        assert cluster is not None
        if self._pids() != self._nodes or any(node.started.ended for node in cluster.nodes):
            self.end()
            return
        for node in cluster.nodes:
            eventually(lambda node=node: not node.workers(), _LIMIT_S, "no worker is left")
            eventually(lambda node=node: node.ask("resources") == node.ask("available"), _LIMIT_S, "all is free")

    def _pids(self) -> list[int]:
        return [] if self._cluster is None else [node.pid for node in self._cluster.nodes]

    def end(self) -> None:
        """Nothing is left of it, on any node. Idempotent."""
        if self._cluster is not None:
            self._cluster.shutdown()
            self._cluster = None
            leaks.assert_clean(self._before)


@pytest.fixture(scope="module")
def kept_cluster() -> Iterator[KeptCluster]:
    kept = KeptCluster()
    yield kept
    kept.end()
