"""The built-in transports keep the transport contract."""

import contextlib
import itertools
import os
import socket

import pytest

from ray.builtin.inproc_transport import InprocTransport
from ray.builtin.routed_transport import RoutedTransport
from ray.builtin.unix_transport import UnixTransport
from ray.testing.contracts.transport import TransportContract
from ray.testing.faults import FaultyTransport


class TestInproc(TransportContract):
    meets_strangers = False

    @pytest.fixture
    def make_transport(self):
        return InprocTransport


class TestInprocDelayed(TransportContract):
    """Delay alone breaks no promise."""

    may_be_interrupted = False
    meets_strangers = False

    @pytest.fixture
    def make_transport(self):
        seeds = itertools.count()
        return lambda: FaultyTransport(InprocTransport(), seed=next(seeds), max_delay_s=0.003)


@pytest.fixture
def make_unix(short_dir):
    numbers = itertools.count()

    def make():
        folder = short_dir / str(next(numbers))  # two listeners of one name must not meet
        folder.mkdir()
        return UnixTransport(str(folder))

    return make


@pytest.fixture
def full_listener(short_dir):
    """Opens one that nobody accepts from, and whose queue is full."""

    @contextlib.contextmanager
    def open_one():
        path = str(short_dir / "full.sock")
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(path)
            listener.listen(0)
            stack.callback(os.unlink, path)
            while True:
                filler = stack.enter_context(socket.socket(socket.AF_UNIX))
                filler.setblocking(False)
                try:
                    filler.connect(path)
                except BlockingIOError:
                    break
            yield f"unix:{path}"

    return open_one


class TestUnix(TransportContract):
    @pytest.fixture
    def make_transport(self, make_unix):
        return make_unix

    @pytest.fixture
    def black_hole(self, full_listener):
        return full_listener


class TestRoutedNear(TransportContract):
    """Within one node; the far transport is not even opened."""

    @pytest.fixture
    def make_transport(self, make_unix):
        def refuse():
            raise AssertionError("opened without need")

        return lambda: RoutedTransport(7, make_unix(), refuse)

    @pytest.fixture
    def black_hole(self, full_listener):
        @contextlib.contextmanager
        def open_one():
            with full_listener() as contact:
                yield f"routed:7/{contact}"

        return open_one


@pytest.mark.slow
class TestUnixDelayed(TransportContract):
    """Delay alone breaks no promise."""

    may_be_interrupted = False
    meets_strangers = False  # seen without delay

    @pytest.fixture
    def make_transport(self, make_unix):
        seeds = itertools.count()
        return lambda: FaultyTransport(make_unix(), seed=next(seeds), max_delay_s=0.003)

    @pytest.fixture
    def black_hole(self, full_listener):
        return full_listener
