"""What the object manager of a node does first: it opens the node's store, as any process of the node."""

from __future__ import annotations

import socket

from ray.plugins.compose import Composition
from ray.runtime import interface
from ray.runtime.cluster.places import is_loopback
from ray.runtime.object_manager.object_manager import ObjectManager


def serve(
    channel: socket.socket,
    own: bytes,
    composition: Composition,
    store_address: str,
    host: str,
    ports: tuple[int, int],
) -> None:
    """Serve until the node manager has gone.

    Args:
        channel: to it.
        own: the number of the node.
        composition: of the node.
        store_address: of its store.
        host: where it listens.
        ports: the first and the last one; zeros: the system chooses.
    """
    interface.own_process = "the object manager"
    store = composition.open_store(store_address)
    ObjectManager(channel, own, store, host, ports, composition.open_store, sampled=is_loopback(host)).serve()
