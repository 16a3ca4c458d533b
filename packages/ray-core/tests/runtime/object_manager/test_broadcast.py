"""One object for many nodes: object managers that are sent it, and send it on. The test is their node managers."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ray.builtin.heap_store import HeapStore
from ray.exceptions import RayConnectionError
from ray.ids import node_bytes, node_manager_of
from ray.protocol.pulls import AGAIN, LOST
from ray.runtime.object_manager import bringing, orders, receivers
from ray.runtime.object_manager.frames import FRAME_BYTES
from ray.runtime.object_manager.object_manager import ObjectManager
from ray.runtime.object_manager.tickets import new_ticket

KEY = b"k" * 20
NBYTES = 8 * FRAME_BYTES + 777
VALUE = (bytes(range(251)) * (NBYTES // 251 + 1))[:NBYTES]


def no_neighbour(address: str) -> HeapStore:
    raise RayConnectionError("the nodes are on machines of their own")


class Slow:
    """A way to a port, with so many seconds for each 64 KiB from there; it can be cut, for good."""

    def __init__(self, port: int, pause_s: Callable[[], float]) -> None:
        self._target, self._pause_s = port, pause_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]
        self._run(self._accept)

    def _run(self, function: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=function, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += client, server
                self._run(self._pump, client, server, lambda: 0.0)
                self._run(self._pump, server, client, self._pause_s)

    def _pump(self, source: socket.socket, target: socket.socket, pause_s: Callable[[], float]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if pause := pause_s():
                    time.sleep(pause)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Node:
    """An object manager on a thread, and what its node manager hears."""

    def __init__(self, net: Net, number: int) -> None:
        self.number = node_bytes(number)
        self.store = HeapStore()
        self.served: list[orders.Served] = []
        self.ended: queue.SimpleQueue[orders.Ended] = queue.SimpleQueue()
        self.pause_s = 0.0
        self._net = net
        self._channel, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        manager = ObjectManager(self._theirs, self.number, self.store, "127.0.0.1", (0, 0), no_neighbour)
        self._threads = [threading.Thread(target=run, daemon=True) for run in (manager.serve, self._hear)]
        self._listens = threading.Event()
        for thread in self._threads:
            thread.start()
        assert self._listens.wait(10)

    def _hear(self) -> None:
        while packet := self._channel.recv(orders.MAX_PACKET_BYTES):
            report = orders.decode_report(packet)
            if isinstance(report, orders.Listens):
                self.way = Slow(report.port, lambda: self.pause_s)
                self._listens.set()
            elif isinstance(report, orders.Ask):
                self.order(self._net.ticket(self.number, report.node))
            elif isinstance(report, orders.Ended):
                self.ended.put(report)
            elif isinstance(report, orders.Served):
                self.served.append(report)

    def order(self, order: orders.Order) -> None:
        self._channel.send(orders.encode(order))

    def bring(self, origin: Node, others: list[Node] | None = None) -> None:
        named = None if others is None else [other.number for other in others]
        self.order(orders.Bring(KEY, origin.number, NBYTES, named))

    def end(self) -> orders.Ended:
        return self.ended.get(timeout=20)

    @property
    def sent(self) -> int:
        return sum(each.sent for each in self.served)

    def close(self) -> None:
        self.way.cut()
        self._channel.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        self._channel.close()
        self._theirs.close()


class Net:
    """Several of them."""

    def __init__(self, count: int, *, sealed: bool = False) -> None:
        self._sealed = sealed
        self.nodes: dict[bytes, Node] = {}
        self.dead: set[bytes] = set()
        for number in range(1, count + 1):
            node = Node(self, number)
            self.nodes[node.number] = node
        self.source, *self.others = self.nodes.values()
        self.source.store.put(KEY, [VALUE], NBYTES)

    def ticket(self, client: bytes, server: bytes) -> orders.Way:
        if server in self.dead:
            return orders.Way(server, reason="it is dead")
        ticket = new_ticket(node_manager_of(client), node_manager_of(server), sealed=self._sealed)
        self.nodes[server].order(orders.Expect(*ticket))
        return orders.Way(server, "127.0.0.1", self.nodes[server].way.port, *ticket)

    def kill(self, node: Node) -> None:
        """It is dead, and the others hear of it."""
        self.dead.add(node.number)
        node.way.cut()
        for other in self.nodes.values():
            if other is not node:
                other.order(orders.Gone(node.number))

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()


@pytest.fixture
def net() -> Iterator[Net]:
    made = Net(9)
    yield made
    made.close()


def came(node: Node) -> orders.Ended:
    """It has, as it was."""
    ended = node.end()
    assert ended.kind == "", ended
    assert node.store.get(KEY) == VALUE
    return ended


def test_a_source_sends_it_twice_and_each_gets_it_once(net: Net) -> None:
    net.source.pause_s = 0.004
    for node in net.others:
        node.bring(net.source)
    received = [came(node).received for node in net.others]
    assert received == [NBYTES] * len(net.others)
    assert sum(node.sent for node in net.nodes.values()) >= sum(received)
    assert net.source.sent <= 2.05 * NBYTES
    assert all(node.sent <= 2.05 * NBYTES for node in net.others)


def test_what_is_encrypted_is_sent_on_as_well() -> None:
    pytest.importorskip("cryptography")
    net = Net(6, sealed=True)
    net.source.pause_s = 0.004
    for node in net.others:
        node.bring(net.source)
    assert [came(node).received for node in net.others] == [NBYTES] * len(net.others)
    assert net.source.sent <= 2.05 * NBYTES
    net.close()


def test_a_part_is_sent_on_before_the_rest_has_come(net: Net) -> None:
    first, second, third = net.others[:3]
    net.source.pause_s = 0.015  # 2 s for all
    for node in (first, second):
        node.bring(net.source)
    time.sleep(0.3)
    began = time.monotonic()
    third.bring(net.source)
    time.sleep(0.3)
    assert not first.store.contains(KEY)  # nobody of its node sees it yet
    assert first.store.get(KEY) is None
    assert not third.served
    net.source.pause_s = 0.0
    for node in (first, second, third):
        came(node)
    assert time.monotonic() - began < 5
    assert {each.node for each in net.source.served if each.sent} == {first.number, second.number}
    assert [each.busy for each in net.source.served if each.node == third.number] == [True]


def test_who_is_not_ahead_sends_nothing(net: Net) -> None:
    """Else two that have as much of it would wait for each other."""
    first, second = net.others[:2]
    net.source.pause_s = 0.3
    first.bring(net.source)
    time.sleep(0.1)
    second.bring(first)
    time.sleep(1)
    assert len(first.served) >= 2
    assert not any(each.sent for each in first.served)
    net.source.pause_s = 0.0
    came(first)
    came(second)


def test_what_is_small_goes_to_all_at_once(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "TREE_BYTES", NBYTES + 1)
    for node in net.others:
        node.bring(net.source)
    for node in net.others:
        came(node)
    assert not any(each.busy for each in net.source.served)


def test_others_go_on_where_a_node_dies_that_sends_on(net: Net) -> None:
    net.source.pause_s = 0.005
    for node in net.others:
        node.bring(net.source)
    time.sleep(0.4)
    dead = net.others[:2]
    for node in dead:
        net.kill(node)
        node.order(orders.GiveUp(KEY))
    for node in net.others[2:]:
        assert came(node).received <= 1.02 * NBYTES


def test_who_asks_after_the_source_has_died_finds_a_copy(net: Net) -> None:
    """Whichever node has it, and though others that are asked seek it as well."""
    *seekers, holder = net.others
    holder.bring(net.source)
    came(holder)
    net.kill(net.source)
    for node in seekers:
        node.bring(net.source, [other for other in net.others if other is not node])
    for node in seekers:
        came(node)


def test_those_that_seek_what_nobody_has_do_not_wait_for_each_other(net: Net) -> None:
    net.kill(net.source)
    began = time.monotonic()
    for node in net.others:
        node.bring(net.source, [other for other in net.others if other is not node])
    assert all(node.end().kind for node in net.others)
    assert time.monotonic() - began < 2.5  # not for as long as a sender may be silent


def test_it_goes_on_from_another_holder_where_the_source_dies(net: Net) -> None:
    first, second = net.others[:2]
    first.bring(net.source)
    came(first)
    net.source.pause_s = 0.005
    second.bring(net.source)
    time.sleep(0.3)
    net.kill(net.source)
    assert came(second).received <= 1.1 * NBYTES
    assert 0 < first.sent < NBYTES


def test_it_is_lost_where_nobody_has_all_of_it(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bringing, "PROGRESS_S", 0.3)
    net.source.pause_s = 0.01
    started = net.others[:5]
    for node in started:
        node.bring(net.source)
    time.sleep(0.5)
    net.kill(net.source)
    assert {node.end().kind for node in started} <= {AGAIN, LOST}
    assert not any(node.store.contains(KEY) for node in started)


def test_a_copy_that_has_gone_is_had_from_the_source(net: Net) -> None:
    first, second, third = net.others[:3]
    for node in (first, second):
        node.bring(net.source)
    for node in (first, second):
        came(node)
        node.order(orders.Remove(1, [KEY]))
    net.source.pause_s = 0.004
    for node in (first, second, third):
        node.bring(net.source)
    for node in (first, second, third):
        came(node)


def test_what_is_here_already_is_sent_on(net: Net) -> None:
    first, second = net.others[:2]
    first.store.put(KEY, [VALUE], NBYTES)
    first.bring(net.source)
    assert came(first).received == 0
    second.bring(first)
    came(second)
