"""Clusters of real nodes for the tests of one file, of which nothing is left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from tests.redis_servers import server_binary

from ray.testing import leaks
from ray.testing.cluster import Cluster


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """For tests that need a Redis server: what the block starts ends with it."""
    server_binary()
    before = leaks.snapshot()
    yield
    leaks.assert_clean(before)


@contextlib.contextmanager
def nodes_of(head: Mapping[str, Any], *others: Mapping[str, Any], **parts: Any) -> Iterator[Cluster]:
    """A cluster whose nodes know each other.

    Args:
        head: arguments of ``Cluster.add_node`` for it.
        *others: the same for each other node.
        **parts: for ``Cluster``.
    """
    with Cluster(initialize_head=True, head_node_args=dict(head), **parts) as cluster:
        for each in others:
            cluster.add_node(**each)
        cluster.wait_for_nodes()
        yield cluster


@contextlib.contextmanager
def cluster_of(head: Mapping[str, Any], *others: Mapping[str, Any], **parts: Any) -> Iterator[Cluster]:
    """The same, and nothing of it is left in the end."""
    with nothing_left(), nodes_of(head, *others, **parts) as cluster:
        yield cluster
