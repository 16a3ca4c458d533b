"""How a node manager becomes one of several: its parts for that are made, and given to each other."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from ray.abc.control import ControlStore
from ray.abc.scheduler import SchedulerPolicy
from ray.abc.store import StoreServer
from ray.ids import node_number
from ray.messages.cluster import NodeRecord
from ray.plugins.compose import Composition
from ray.protocol import handshake
from ray.protocol.lending import LendingTable
from ray.runtime.cluster.belonging import Belonging
from ray.runtime.cluster.director import Director
from ray.runtime.cluster.members import Members
from ray.runtime.cluster.names import ActorNames
from ray.runtime.cluster.registry import Registry
from ray.runtime.mains.objects_of_node import objects_of
from ray.runtime.node.joined import Joined
from ray.runtime.node.node import NodeManager
from ray.runtime.node.processes import NodeProcesses
from ray.runtime.process.node_start import ClusterConfig


def join(
    manager: NodeManager,
    config: ClusterConfig,
    registry: Registry,
    control: ControlStore,
    policy: SchedulerPolicy,
    composition: Composition,
    store: StoreServer,
    on_joined: Callable[[], None],
) -> None:
    """Have a node manager that listens ask to be let in, or direct the others; it answers while it serves.

    Args:
        manager: of this node.
        config: of the cluster.
        registry: what is known of the cluster.
        control: the state of record.
        policy: chooses among the other nodes.
        composition: of the node's parts.
        store: of the node.
        on_joined: called once when this node is one of them.
    """
    record = NodeRecord(
        node_number(manager.node),
        manager.pool.node_address,
        config.node_name,
        socket.gethostname(),
        os.getpid(),
        dict(manager.leases.resources.total()),
        config.labels,
    )
    here = handshake.Membership(manager.config.session, record.number, digest=composition.plan.digest)
    members = Members(
        manager.transport,
        lambda: handshake.hello(here, "node", manager.process_id, record.address, record.pid),
        manager.timers,
    )
    processes = NodeProcesses(manager.peers, manager.pool, manager.jobs, manager.job_ends, manager.output)

    names = ActorNames(control, lambda text: print(text, flush=True))

    def direct() -> Director:
        registry.direct(record)
        registry.on_dead = names.node_dead
        return Director(record, members, registry, manager.timers, processes.homes, joined.take_roster)

    director = record if config.is_head else registry.director()
    belonging = Belonging(
        record, director, members, manager.timers, on_joined, manager.fail, direct if config.is_head else None
    )
    joined = Joined(
        manager.process_id,
        members,
        belonging,
        LendingTable(policy),
        manager.leases,
        manager.actors,
        processes,
        names,
    )
    stored = objects_of(manager, config, composition, store, members, processes)
    if stored is not None:
        joined.share(stored)
        stored.begin()
    belonging.begin()
    manager.join(joined)
