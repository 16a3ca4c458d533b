"""The built-in transports keep the transport contract."""

import pytest

from ray.builtin.inproc_transport import InprocTransport
from ray.builtin.unix_transport import UnixTransport
from ray.testing.contracts.transport import TransportContract


class TestInproc(TransportContract):
    @pytest.fixture
    def make_transport(self):
        return InprocTransport


class TestUnix(TransportContract):
    @pytest.fixture
    def make_transport(self, short_dir):
        numbers = iter(range(1000))

        def make():
            folder = short_dir / str(next(numbers))  # two listeners of one name must not meet
            folder.mkdir()
            return UnixTransport(str(folder))

        return make
