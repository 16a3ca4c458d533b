"""What the object manager of a node does first: it opens the node's store, as any process of the node."""

from __future__ import annotations

import socket

from ray.plugins.compose import Composition
from ray.runtime import interface
from ray.runtime.cluster.own_host import is_loopback
from ray.runtime.object_manager.object_manager import ObjectManager
from ray.runtime.process.node_start import ClusterConfig


def serve(channel: socket.socket, composition: Composition, store_address: str, config: ClusterConfig) -> None:
    """Serve until the node manager has gone.

    Args:
        channel: to it.
        composition: of the node.
        store_address: of its store.
        config: of the cluster.
    """
    interface.own_process = "the object manager"
    store = composition.open_store(store_address)
    ObjectManager(channel, store, config.host, config.ports, sampled=is_loopback(config.host)).serve()
