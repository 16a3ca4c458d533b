"""The transport keeps the transport contract, over either kind of socket, and in the presence of faults."""

import contextlib
import itertools
import socket

import pytest

from ray.builtin.reliable_transport import ReliableTransport
from ray.testing.contracts.transport import TransportContract, WatchableTransportContract
from ray.testing.faults import FaultyTransport
from ray_transport_zmq.options import ZmqOptions
from ray_transport_zmq.transport import ZmqTransport


@pytest.fixture
def mute_path(folders):
    """Opens a listener that says nothing to clients that connect."""

    @contextlib.contextmanager
    def open_one():
        path = f"{folders()}/mute.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(64)
            yield f"ipc://{path}"

    return open_one


@contextlib.contextmanager
def mute_port():
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


class TestIpc(WatchableTransportContract):
    @pytest.fixture
    def make_transport(self, folders):
        return lambda: ZmqTransport(folders())

    @pytest.fixture
    def black_hole(self, mute_path):
        return mute_path


class TestTcp(WatchableTransportContract):
    @pytest.fixture
    def make_transport(self, folders):
        folder = folders()
        return lambda: ZmqTransport(folder, ZmqOptions(scheme="tcp"))

    @pytest.fixture
    def black_hole(self):
        return mute_port


@pytest.mark.slow
class TestIpcDelayed(TransportContract):
    """Delay alone breaks no promise."""

    may_be_interrupted = False
    meets_strangers = False  # seen without the layers

    @pytest.fixture
    def make_transport(self, folders):
        seeds = itertools.count()
        return lambda: FaultyTransport(ZmqTransport(folders()), seed=next(seeds), max_delay_s=0.003)

    @pytest.fixture
    def black_hole(self, mute_path):
        return mute_path


@pytest.mark.slow
class TestIpcThatLoses(TransportContract):
    """Below the layer that makes up for it; closing flushes for longer, as much of what is sent needs several tries."""

    may_be_interrupted = False
    meets_strangers = False  # seen without the layers

    @pytest.fixture
    def make_transport(self, folders):
        def make():
            faulty = FaultyTransport(
                ZmqTransport(folders()), seed=3, loss=0.25, duplicate=0.1, reorder=0.2, max_delay_s=0.01
            )
            return ReliableTransport(faulty, close_s=6.0)

        return make
