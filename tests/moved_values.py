"""Values in the stores of a cluster's nodes: what each node has, what it has moved, and which process moves them."""

from __future__ import annotations

import contextlib
import os
import signal

from ray.plugins.compose import Composition
from ray.runtime.process.session_dirs import session_in
from ray.testing.cluster import Cluster, ClusterNode


def stored(cluster: Cluster, node: ClusterNode) -> int:
    """How many objects a node has."""
    address = session_in(node.started.session_dir).store_address
    with contextlib.closing(Composition(cluster.plan).open_store(address)) as store:
        return store.stats().objects


def transfers(node: ClusterNode) -> dict[str, int]:
    """What a node counts of values that come and go."""
    return dict(node.ask("transfers"))


def received(*nodes: ClusterNode) -> int:
    """How many bytes have come to these nodes over data connections."""
    return sum(transfers(node)["received_bytes"] for node in nodes)


def mover_of(node: ClusterNode) -> int:
    """The pid of a node's object manager."""
    return transfers(node)["pid"]


def kill(*pids: int) -> None:
    """End these processes, if they live."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
