"""Whether others read what is in a node's store, and if so what the node manager has for that."""

from __future__ import annotations

import functools

from ray.abc.store import SHARED, StoreServer
from ray.ids import node_of, node_title
from ray.plugins.compose import Composition
from ray.protocol.pulls import PullTable
from ray.runtime.cluster.members import Members
from ray.runtime.cluster.own_host import this_machine
from ray.runtime.cluster.places import is_loopback
from ray.runtime.mains import object_manager
from ray.runtime.node.node import NodeManager
from ray.runtime.node.objects import NodeObjects
from ray.runtime.node.objects_desk import ObjectsDesk
from ray.runtime.node.processes import NodeProcesses
from ray.runtime.object_manager.sealed import is_possible
from ray.runtime.object_manager.start import start
from ray.runtime.object_manager.tickets import Door
from ray.runtime.process.node_start import LOOPBACK, ClusterConfig


def objects_of(
    manager: NodeManager,
    config: ClusterConfig,
    composition: Composition,
    store: StoreServer,
    members: Members,
    processes: NodeProcesses,
) -> NodeObjects | None:
    """The part of a node manager that has to do with values in stores; None: each process has a store of its own.

    In the clear they read only where nobody else can listen, or the user has said that they may. Without the package
    that encrypts they do not read otherwise: values travel in messages.
    """
    if SHARED not in composition.plan.store.capabilities:
        return None
    wanted = config.data_encryption
    clear = wanted == "none" or (wanted == "auto" and is_loopback(config.host))
    machine = this_machine() if config.same_host else b""
    door = Door(config.host, not clear, store.address, machine) if clear or is_possible() else Door("")
    manager.reception.serves = bool(door.host)
    host, ports = (config.host, config.ports) if door.host else (LOOPBACK, (0, 0))
    serve = functools.partial(
        object_manager.serve,
        own=node_of(manager.process_id),
        composition=composition,
        store_address=store.address,
        host=host,
        ports=ports,
    )
    title = node_title(manager.process_id, config.node_name, config.host)
    desk = ObjectsDesk(title, processes, manager.pool, store, manager.fail)
    return NodeObjects(
        manager.process_id,
        door,
        desk,
        members,
        manager.transport,
        manager.timers,
        PullTable(manager.config.store_bytes),
        functools.partial(start, serve),
    )
