"""The layer keeps the transport contract over a good transport, and over one that breaks it."""

import pytest

from ray.builtin.reliable_transport import ReliableTransport
from ray.builtin.unix_transport import UnixTransport
from ray.testing.contracts.transport import TransportContract
from ray.testing.faults import FaultyTransport


@pytest.fixture
def make_unix(short_dir):
    numbers = iter(range(1000))

    def make():
        folder = short_dir / str(next(numbers))
        folder.mkdir()
        return UnixTransport(str(folder))

    return make


class TestOverUnix(TransportContract):
    meets_strangers = False  # seen without the layer
    may_be_interrupted = False  # no session uses the layer

    @pytest.fixture
    def make_transport(self, make_unix):
        return lambda: ReliableTransport(make_unix())


@pytest.mark.slow
class TestOverALossyTransport(TransportContract):
    """Closing flushes for longer here, as much of what is sent needs several tries."""

    meets_strangers = False  # seen without the layer
    may_be_interrupted = False  # no session uses the layer

    @pytest.fixture
    def make_transport(self, make_unix):
        def make():
            faulty = FaultyTransport(make_unix(), seed=3, loss=0.25, duplicate=0.1, reorder=0.2, max_delay_s=0.01)
            return ReliableTransport(faulty, close_s=6.0)

        return make
