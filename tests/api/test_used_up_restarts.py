"""What is said of an actor that may not be started again, and of one that waits for it."""

import os
import pickle
import re
import signal
import time

import pytest
from tests.api.one_session import nothing_left

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.testing import leaks

__all__ = ["nothing_left"]

USED_UP = "started again {}, as often as its max_restarts allows: create a new one, or raise that number."


@ray.remote
class Actor:
    def leave(self):
        os._exit(3)

    def exits(self):
        raise SystemExit(4)

    def is_killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def get(self):
        return 1


@pytest.fixture(autouse=True, scope="module")
def session():
    before = leaks.snapshot()
    with ray.init(num_cpus=2) as context:
        yield context
    leaks.assert_clean(before)


def died(actor, *methods):
    """What the last of the calls raises."""
    for name in methods:
        with pytest.raises(RayActorError) as caught:
            ray.get(getattr(actor, name).remote())
    return caught.value


@pytest.mark.parametrize("end", ["leave", "exits", "is_killed"])
def test_restarts_that_are_used_up(end):
    actor = Actor.options(max_restarts=1).remote()
    first = died(actor, end)
    assert "is started again" in str(first)
    assert first.restarted == 0
    for error in (died(actor, end), died(actor, "get")):
        assert USED_UP.format("once") in str(error)
        assert "decorate" not in str(error)
        assert error.restarted == 1
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_several():
    actor = Actor.options(max_restarts=2).remote()
    assert USED_UP.format("2 times") in str(died(actor, "leave", "leave", "leave"))


def test_none_to_use_up():
    error = died(Actor.remote(), "leave", "get")
    assert "decorate its class with max_restarts=" in str(error)
    assert error.restarted == 0


def test_an_end_that_has_nothing_to_do_with_it():
    actor = Actor.options(max_restarts=2).remote()
    died(actor, "leave")
    assert ray.get(actor.get.remote()) == 1
    ray.kill(actor)
    error = died(actor, "get")
    assert "max_restarts" not in str(error)


def test_a_wait_on_purpose_is_called_so():
    actor = Actor.options(max_restarts=-1, max_task_retries=-1).remote()
    ref = actor.leave.remote()
    told, end = "", time.monotonic() + 30
    while "that waits on purpose, longer each time, at most 5 s" not in told and time.monotonic() < end:
        with pytest.raises(GetTimeoutError) as caught:
            ray.get(ref, timeout=0.2)
        told = str(caught.value)
    assert re.search(r"died \d+ times \(.*\); that waits on purpose", told)
    assert any("that waits on purpose" in row["message"] for row in ray.error_info())
    ray.kill(actor)
