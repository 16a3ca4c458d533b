"""A message about an actor may be at the node manager before its creation is, which another process has sent."""

from __future__ import annotations

import psutil
import pytest
from tests import victims

import ray
from ray.exceptions import RayActorError

ROUNDS = 3


@ray.remote(num_cpus=0)
class Counter:
    def add(self, number):
        return number + 1


@ray.remote(num_cpus=0)
class Other:
    def waits(self):
        """Tells the node manager, as every wait does that is not short."""
        ray.wait([never.remote()], timeout=0.05)

    def call(self, handle):
        return ray.get(handle.add.remote(1))

    def call_method(self, method):
        return ray.get(method.remote(1))

    def kill(self, handle):
        ray.kill(handle)


@ray.remote(num_cpus=1000)
def never():
    pass


@pytest.fixture
def early(start):
    """Calls ``use`` of another process with an actor that is just being made, and is heard before the maker is."""
    start(num_cpus=2, store="heap", log_to_driver=False)
    node_manager = psutil.Process(victims.node_manager())
    others = [Other.remote()]
    ray.get(others[0].waits.remote(), timeout=30)

    def run(use):
        node_manager.suspend()
        try:
            ray.get(others[0].waits.remote(), timeout=30)
            handle = Counter.remote()
            ref = use(others[0], handle)
            ray.wait([ref], timeout=0.1)
        finally:
            node_manager.resume()
        return handle, ref

    yield run
    others.clear()


@pytest.mark.parametrize("use", ["call", "call_method"])
def test_an_actor_that_is_just_made_may_be_called_by_others(early, use):
    for _ in range(ROUNDS):
        if use == "call":
            _, ref = early(lambda other, handle: other.call.remote(handle))
        else:
            _, ref = early(lambda other, handle: other.call_method.remote(handle.add))
        assert ray.get(ref, timeout=30) == 2


def test_an_actor_that_is_just_made_may_be_killed_by_others(early):
    for _ in range(ROUNDS):
        handle, ref = early(lambda other, handle: other.kill.remote(handle))
        ray.get(ref, timeout=30)
        with pytest.raises(RayActorError):
            ray.get(handle.add.remote(1), timeout=30)
