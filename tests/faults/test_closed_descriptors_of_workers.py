"""Tasks that close every descriptor: the error says why the worker has ended."""

from __future__ import annotations

import importlib.util
import os
import signal
import time

import pytest
from tests import sessions
from tests.quick import first_of

import ray
from ray.exceptions import RayActorError, WorkerCrashedError
from ray.testing import leaks

nothing_left = sessions.unchecked()

#: What the worker says of itself, or the node manager, which may be the first to see it.
SAID = "closed descriptors"
TRANSPORTS = ["unix", *(["zmq", "routed"] if importlib.util.find_spec("ray_transport_zmq") else [])]


@pytest.fixture(scope="module", autouse=True, params=first_of(TRANSPORTS))
def session(request):
    before = leaks.snapshot()
    with ray.init(num_cpus=2, transport=request.param):
        yield
    leaks.assert_clean(before)


def close_all():
    os.closerange(3, 1024)  # as code does that makes a daemon


def close_all_in_a_deep_call(depth=60):
    return close_all_in_a_deep_call(depth - 1) if depth else (close_all(), time.sleep(60))


@ray.remote(max_retries=0)
def closes_and_returns():
    close_all()


@ray.remote(max_retries=0)
def closes_and_goes_on():
    close_all()
    time.sleep(60)


@ray.remote(max_retries=0)
def closes_and_opens(more_s):
    close_all()
    opened = [os.pipe() for _ in range(50)]
    time.sleep(more_s)
    return len(opened)


@ray.remote(max_retries=0)
def closes_in_a_deep_call():
    close_all_in_a_deep_call()


@ray.remote
class Actor:
    def close(self):
        close_all()

    def nothing(self):
        pass


@pytest.mark.parametrize(
    "task",
    [closes_and_returns, closes_and_goes_on, closes_in_a_deep_call],
    ids=["at once", "while it goes on", "deep inside"],
)
def test_a_task(task):
    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(task.remote(), timeout=30)
    assert SAID in str(caught.value)


@pytest.mark.parametrize("more_s", [0, 60], ids=["at once", "while it goes on"])
def test_a_task_that_opens_others_in_their_place(more_s):
    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(closes_and_opens.remote(more_s), timeout=30)
    assert SAID in str(caught.value)


def test_an_actor():
    actor = Actor.remote()
    ref = actor.close.remote()
    for each in (ref, actor.nothing.remote()):
        with pytest.raises(RayActorError) as caught:
            ray.get(each, timeout=30)
        assert SAID in str(caught.value)


@ray.remote(max_retries=0)
def aborts():
    os.abort()


def test_an_abort_of_the_tasks_own_is_not_put_down_to_it():
    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(aborts.remote(), timeout=30)
    assert caught.value.signal == signal.SIGABRT
    assert SAID not in str(caught.value)
    assert "Fatal Python error: Aborted" in str(caught.value)


def abort_in_a_deep_call(depth):
    if depth:
        abort_in_a_deep_call(depth - 1)
    os.write(2, b"said just before\n")
    os.abort()


@ray.remote(max_retries=0)
def aborts_deep_inside():
    abort_in_a_deep_call(60)


def test_what_led_to_a_crash_is_shown_however_deep_the_stack_is():
    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(aborts_deep_inside.remote(), timeout=30)
    tail = caught.value.stderr_tail.splitlines()
    assert len(tail) == 20
    assert tail[:2] == ["said just before", "Fatal Python error: Aborted"]
    assert "in abort_in_a_deep_call" in tail[4]
