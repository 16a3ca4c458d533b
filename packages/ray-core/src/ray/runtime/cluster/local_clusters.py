"""What runs of clusters on this machine: the nodes of this user, and the keeper that a head has beside its node."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import msgspec

from ray.ids import node_bytes
from ray.runtime.cluster.process_ends import Process
from ray.runtime.process.session_dirs import (
    ClusterFacts,
    SessionFacts,
    live_sessions,
    maker_of,
    session_dirs,
)

#: In the keeper's directory.
KEEPER_FILE = "keeper.json"


class KeeperFacts(msgspec.Struct, frozen=True):
    """What other programs need to know of a keeper."""

    name: str
    """Of the cluster."""
    session: str
    """The id of this life of the cluster."""
    address: str
    """What users give."""
    key_path: str


@dataclass(frozen=True)
class LocalNode:
    """A node of a cluster."""

    session_dir: str
    facts: SessionFacts
    cluster: ClusterFacts
    process: Process
    """The node manager."""

    @property
    def node_id(self) -> str:
        """As ``ray.nodes()`` has it."""
        return node_bytes(self.facts.node).hex()


@dataclass(frozen=True)
class LocalKeeper:
    """The keeper of a cluster that was started here."""

    folder: str
    facts: KeeperFacts
    process: Process


@dataclass
class LocalCluster:
    """What one life of a cluster has on this machine."""

    name: str
    session: str
    address: str
    nodes: list[LocalNode] = field(default_factory=list)
    """The oldest first."""
    keeper: LocalKeeper | None = None
    lost_keeper: LocalKeeper | None = None
    """One that was killed, and what it has left."""


def local_clusters() -> dict[str, LocalCluster]:
    """``{session: cluster}`` of all clusters of this user that run here; the oldest first."""
    found: dict[str, LocalCluster] = {}
    keepers = _keepers()
    for keeper in keepers:
        facts = keeper.facts
        if keeper.process.is_alive:
            found[facts.session] = LocalCluster(facts.name, facts.session, facts.address, keeper=keeper)
    for path, session in reversed(live_sessions()):
        cluster = session.cluster
        process = Process(*maker_of(path))
        if cluster is not None and process.is_alive:
            known = found.setdefault(cluster.session, LocalCluster(cluster.name, cluster.session, cluster.address))
            known.nodes.append(LocalNode(path, session, cluster, process))
    for keeper in keepers:
        lost = found.get(keeper.facts.session)
        if lost is not None and lost.keeper is None:
            lost.lost_keeper = keeper
    return found


def _keepers() -> list[LocalKeeper]:
    """Those that run, and what others have left."""
    found: list[LocalKeeper] = []
    for folder in session_dirs():
        try:
            with open(os.path.join(folder, KEEPER_FILE), "rb") as file:
                facts = msgspec.json.decode(file.read(), type=KeeperFacts)
        except (OSError, msgspec.MsgspecError):
            continue
        found.append(LocalKeeper(folder, facts, Process(*maker_of(folder))))
    return found
