"""How a node manager becomes one of several: its parts for that are made, and given to each other."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from msgspec.structs import replace

from ray.abc.control import ControlStore
from ray.abc.scheduler import SchedulerPolicy
from ray.abc.store import StoreServer
from ray.ids import node_number
from ray.messages.cluster import Demands, KeptDirector, NodeRecord
from ray.plugins.compose import Composition
from ray.protocol import handshake
from ray.protocol.lending import LendingTable
from ray.runtime.cluster.belonging import Belonging
from ray.runtime.cluster.data_calls import DataCalls
from ray.runtime.cluster.director import Director
from ray.runtime.cluster.members import Members
from ray.runtime.cluster.office import Office
from ray.runtime.cluster.survey import Survey
from ray.runtime.mains.directed_of_node import DirectedParts
from ray.runtime.mains.objects_of_node import objects_of
from ray.runtime.node.joined import Joined
from ray.runtime.node.node import NodeManager
from ray.runtime.node.processes import NodeProcesses
from ray.runtime.process.node_start import ClusterConfig
from ray.runtime.process.session_dirs import note_end


class NodeLife:
    """Of one node of a cluster. Implements ``Life``."""

    def __init__(self, manager: NodeManager, on_joined: Callable[[], None]) -> None:
        self._manager = manager
        self.joined = on_joined

    def failed(self, reason: str) -> None:
        """See ``Life``."""
        if not self._manager.stopping:
            note_end(self._manager.config.session_dir, reason)
        self._manager.fail(reason)

    def renewed(self, sent: float) -> None:
        """See ``Life``."""
        self._manager.pool.renewed(sent)


def join(
    manager: NodeManager,
    config: ClusterConfig,
    known: KeptDirector | None,
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
        known: the director of the cluster; None: this node is to be that.
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
        config.host,
    )
    here = handshake.Membership(manager.config.session, record.number, digest=composition.plan.digest)
    members = Members(
        manager.transport,
        lambda talk, again: replace(
            handshake.hello(here, "node", manager.process_id, record.address, record.pid), talk=talk, again=again
        ),
        manager.timers,
    )
    processes = NodeProcesses(manager.peers, manager.pool, manager.jobs, manager.job_ends, manager.output)
    office = None if known is not None else Office(control, record, config.ended, manager.timers)
    directed = DirectedParts(manager, config, control, members, processes, office)
    director = None
    if office is not None:
        director = Director(
            record,
            config.ended,
            members,
            office,
            manager.timers,
            processes.homes,
            lambda roster: joined.take_roster(record, roster),
            directed.term_begins,
        )
    life = NodeLife(manager, on_joined)
    belonging = Belonging(record, known or KeptDirector(record, 0), members, control, manager.timers, life, director)
    joined = Joined(
        manager.process_id,
        members,
        belonging,
        LendingTable(policy),
        manager.leases,
        manager.actors,
        processes,
        directed.make,
    )
    stored = objects_of(manager, config, composition, store, members, processes)
    if stored is not None:
        calls = DataCalls(manager.transport)
        if director is not None:
            director.data = calls
        joined.share(stored, calls)
        stored.begin()
    survey = Survey(members, manager.timers, manager.demands.rows)
    joined.hear_also(Demands, survey.heard)
    belonging.begin()
    manager.join(joined, survey)
