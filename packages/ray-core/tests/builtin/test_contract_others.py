"""The built-in policies, control store and executors keep their contracts."""

import pytest

from ray.builtin.embedded_control import EmbeddedControlServer, EmbeddedControlStore
from ray.builtin.executors import SerialExecutor, ThreadsExecutor
from ray.builtin.schedulers import HybridPolicy, SpreadPolicy
from ray.testing.contracts.control import ControlContract
from ray.testing.contracts.executor import ExecutorContract
from ray.testing.contracts.scheduler import SchedulerContract
from ray.testing.faults import FaultyControlStore


class TestHybrid(SchedulerContract):
    @pytest.fixture(params=[0, 0.5, 1])
    def make_policy(self, request):
        return lambda: HybridPolicy(request.param)


class TestSpread(SchedulerContract):
    @pytest.fixture
    def make_policy(self):
        return SpreadPolicy


class TestEmbedded(ControlContract):
    @pytest.fixture
    def open_control(self):
        server = EmbeddedControlServer()
        yield lambda: EmbeddedControlStore(server.address)
        server.close()


class TestEmbeddedFarAway(ControlContract):
    """What may be late: the same store, used by a thread alone."""

    @pytest.fixture
    def open_control(self):
        server = EmbeddedControlServer()
        yield lambda: FaultyControlStore(EmbeddedControlStore(server.address))
        server.close()

    @pytest.fixture
    def silence(self):
        return FaultyControlStore.silent


@pytest.mark.slow
class TestSlowEmbedded(TestEmbeddedFarAway):
    @pytest.fixture
    def open_control(self):
        server = EmbeddedControlServer()
        yield lambda: FaultyControlStore(EmbeddedControlStore(server.address), seed=1, max_delay_s=0.001)
        server.close()


class TestSerial(ExecutorContract):
    @pytest.fixture
    def make_executor(self):
        return lambda max_concurrency, groups: SerialExecutor()


class TestThreads(ExecutorContract):
    @pytest.fixture
    def make_executor(self):
        return ThreadsExecutor
