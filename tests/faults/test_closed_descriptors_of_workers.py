"""Tasks that close every descriptor: whoever gets the error learns why the worker has ended."""

from __future__ import annotations

import os
import time

import pytest
from tests.api.one_session import nothing_left

import ray
from ray.exceptions import RayActorError, WorkerCrashedError
from ray.testing import leaks

__all__ = ["nothing_left"]

#: What the worker says of itself, or the node manager, which may be the first to see it.
SAID = "closed descriptors"


@pytest.fixture(scope="module", autouse=True)
def session():
    before = leaks.snapshot()
    with ray.init(num_cpus=2, transport="unix"):
        yield
    leaks.assert_clean(before)


def close_all():
    os.closerange(3, 1024)  # as code does that makes a daemon


@ray.remote(max_retries=0)
def closes_and_returns():
    close_all()


@ray.remote(max_retries=0)
def closes_and_goes_on():
    close_all()
    time.sleep(60)


@ray.remote
class Actor:
    def close(self):
        close_all()

    def nothing(self):
        pass


@pytest.mark.parametrize("task", [closes_and_returns, closes_and_goes_on], ids=["at once", "while it goes on"])
def test_a_task(task):
    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(task.remote(), timeout=30)
    assert SAID in str(caught.value)


def test_an_actor():
    actor = Actor.remote()
    ref = actor.close.remote()
    for each in (ref, actor.nothing.remote()):
        with pytest.raises(RayActorError) as caught:
            ray.get(each, timeout=30)
        assert SAID in str(caught.value)
