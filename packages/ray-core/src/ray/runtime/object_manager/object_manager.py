"""The object manager of a node: a client of its store that brings objects from other nodes, and sends them there.

The node manager decides which and when; it speaks over one channel, whose end is that of this process. Threads do the
work: nothing here waits for another transfer.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Callable

from ray.abc.store import LISTING, Listing, Store
from ray.exceptions import RayError
from ray.protocol.pulls import AGAIN
from ray.runtime.object_manager.bringing import Bringing
from ray.runtime.object_manager.neighbours import Neighbours
from ray.runtime.object_manager.orders import (
    MAX_PACKET_BYTES,
    Ask,
    Bring,
    Ended,
    Expect,
    GiveUp,
    Gone,
    Listens,
    Order,
    Remove,
    Removed,
    Report,
    Way,
    decode_order,
    encode,
)
from ray.runtime.object_manager.serving import Serving
from ray.runtime.object_manager.standing import StandingThreads
from ray.runtime.object_manager.tickets import Ticket
from ray.runtime.object_manager.ways import Ways


class ObjectManager:
    """``serve`` returns when the node manager has gone."""

    def __init__(
        self,
        channel: socket.socket,
        own: bytes,
        store: Store,
        host: str,
        ports: tuple[int, int],
        open_store: Callable[[str], Store],
        *,
        sampled: bool = False,
    ) -> None:
        """Listen.

        Args:
            channel: to the node manager, of packets.
            own: the number of this node.
            store: of the node; used by this process alone.
            host: where other nodes reach this one.
            ports: the first and the last one to listen on; zeros: the system chooses.
            open_store: opens the store of another node of this machine, by its address.
            sampled: whether samples of what is sent are checked, or all of it.
        """
        self._channel = channel
        self._store = store
        self._own = own
        self._bringing: dict[bytes, Bringing] = {}
        self._serving = Serving(store, self._bringing.get, self._say, host, ports, sampled=sampled)
        self._ways = Ways(lambda node: self._say(Ask(node)))
        self._neighbours = Neighbours(open_store)
        self._threads = StandingThreads()

    def _say(self, report: Report) -> None:
        with contextlib.suppress(OSError):  # the node manager has gone, and this process goes as well
            self._channel.send(encode(report))

    def serve(self) -> None:
        """Take orders."""
        try:
            self._serve()
        finally:
            self._serving.close()
            self._ways.close()
            self._neighbours.close()
            self._threads.close()

    def _serve(self) -> None:
        self._serving.begin()
        self._say(Listens(self._serving.port))
        while True:
            try:
                packet = self._channel.recv(MAX_PACKET_BYTES)
            except OSError:
                return
            if not packet:
                return
            self._take(decode_order(packet))

    def _take(self, order: Order) -> None:
        if isinstance(order, Bring):
            bringing = Bringing(order, self._own, self._store, self._ways, self._neighbours)
            self._bringing[order.key] = bringing
            try:
                self._threads.begin(functools.partial(self._bring, order.key, bringing))
            except RuntimeError as error:  # there is no room for one more thread
                del self._bringing[order.key]
                self._say(Ended(order.key, AGAIN, str(error)))
        elif isinstance(order, GiveUp):
            known = self._bringing.get(order.key)
            if known is not None:
                known.give_up()
        elif isinstance(order, Gone):
            self._ways.node_gone(order.node)
            self._neighbours.gone(order.node)
            for each in list(self._bringing.values()):
                each.node_gone(order.node)
        elif isinstance(order, Expect):
            self._serving.expected.add(Ticket(order.id, order.secret, order.client, order.server, order.sealed))
        elif isinstance(order, Way):
            self._ways.found(order)
        else:
            self._remove(order)

    def _bring(self, key: bytes, bringing: Bringing) -> None:
        try:
            ended = bringing.run()
        except BaseException as error:
            ended = Ended(key, AGAIN, f"{type(error).__name__}: {error}")
        del self._bringing[key]
        self._say(ended)

    def _remove(self, order: Remove) -> None:
        store = self._store
        for key in order.keys:
            store.delete(key)
            self._serving.receivers.forget(key)
        if order.prefix and isinstance(store, Listing) and LISTING in store.capabilities:
            with contextlib.suppress(RayError):  # the store has gone, and the node with it
                for stored in store.list():
                    if stored.object_id.startswith(order.prefix):
                        store.delete(stored.object_id)
        self._say(Removed(order.number))
