"""The routed transport over this one keeps the transport contract: between nodes, and within one that others reach."""

import contextlib
import itertools
import socket

import pytest

from ray.builtin.routed_transport import RoutedTransport
from ray.builtin.unix_transport import UnixTransport
from ray.testing.contracts.transport import TransportContract
from ray_transport_zmq.options import ZmqOptions
from ray_transport_zmq.transport import ZmqTransport


class InZmq:
    """Has the checks interrupt the code of this package as well."""

    __module__ = ZmqTransport.__module__


class Reached(RoutedTransport, InZmq):
    """Listens for other nodes at once."""

    def listen(self, hint):
        return self.listen_far(super().listen(hint))


@pytest.fixture
def make_routed(folders):
    keys = folders()

    def make(node):
        return Reached(node, UnixTransport(folders()), lambda: ZmqTransport(keys, ZmqOptions(scheme="tcp")))

    return make


class TestRoutedFar(TransportContract):
    """Each process is of a node of its own."""

    @pytest.fixture
    def make_transport(self, make_routed):
        nodes = itertools.count(1)
        return lambda: make_routed(next(nodes))

    @pytest.fixture
    def black_hole(self):
        @contextlib.contextmanager
        def open_one():
            with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
                yield f"routed:99/unix:/nowhere|tcp://127.0.0.1:{listener.getsockname()[1]}"

        return open_one


class TestRoutedSought(TransportContract):
    """Each is of a node of its own, and its address does not say where others reach it: that has to be asked."""

    @pytest.fixture
    def make_transport(self, folders):
        keys, nodes = folders(), itertools.count(1)
        known = {}  # {near address: whole address}

        class Sought(RoutedTransport, InZmq):
            def listen(self, hint):
                address = super().listen(hint)
                known[address] = self.listen_far(address)
                return address

        def find(node, address, found):
            found(known.get(address, ""), "" if address in known else "nobody knows it")

        def make():
            transport = Sought(
                next(nodes), UnixTransport(folders()), lambda: ZmqTransport(keys, ZmqOptions(scheme="tcp"))
            )
            transport.find_with(find)
            return transport

        return make


class TestRoutedNearWithFarOpen(TransportContract):
    """All of one node, and each could be reached from others."""

    @pytest.fixture
    def make_transport(self, make_routed):
        return lambda: make_routed(1)
