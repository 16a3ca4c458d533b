"""The transport keeps the transport contract, over either kind of socket, and behind a wrapper that injects nothing."""

import pytest

from ray.testing.contracts.transport import TransportContract
from ray.testing.faults import FaultyTransport
from ray_transport_zmq.plugin import ZmqOptions
from ray_transport_zmq.transport import ZmqTransport


class TestIpc(TransportContract):
    @pytest.fixture
    def make_transport(self, folders):
        return lambda: ZmqTransport(folders())


class TestTcp(TransportContract):
    @pytest.fixture
    def make_transport(self, folders):
        folder = folders()
        return lambda: ZmqTransport(folder, ZmqOptions(scheme="tcp"))


class TestIpcWrapped(TransportContract):
    @pytest.fixture
    def make_transport(self, folders):
        return lambda: FaultyTransport(ZmqTransport(folders()))
