"""Queues, locks and pools with ``local_mode=True``, where nothing runs beside the program."""

import asyncio
import weakref

import pytest

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError
from ray.runtime.completion import promise
from ray.util import ActorPool
from ray.util.queue import Empty, Full, Queue
from ray.util.steps import run, run_async
from ray.util.sync import Barrier, BrokenBarrierError, Event, Lock, Variable


@ray.remote
class Double:
    def double(self, x):
        return 2 * x


@pytest.fixture(autouse=True)
def session():
    with ray.init(local_mode=True):
        yield


def test_what_need_not_wait():
    q = Queue(maxsize=1)
    q.put(1)
    with pytest.raises(Full):
        q.put(2, timeout=0.1)
    assert q.get() == 1
    with pytest.raises(Empty):
        q.get(timeout=0.1)
    lock, other = Lock(), None
    with lock:
        other = Lock()
        assert not lock.acquire(timeout=0.1)
        assert other.acquire()
        other.release()
    assert lock.acquire()
    lock.release()
    event, variable = Event(), Variable()
    assert not event.wait(timeout=0.1)
    event.set()
    assert event.wait()
    with pytest.raises(TimeoutError):
        variable.get(timeout=0.1)
    variable.set(1)
    assert variable.get() == 1
    with pytest.raises(BrokenBarrierError):
        Barrier(2).wait(timeout=0.1)
    assert list(ActorPool([Double.remote()]).map(lambda actor, x: actor.double.remote(x), [1, 2])) == [2, 4]


def test_a_wait_without_end_is_refused():
    for wait in (Queue().get, Event().wait, Variable().get):
        with pytest.raises(ObjectLostError):
            wait()


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("way", [run, lambda steps: asyncio.run(run_async(steps))])
def test_an_error_that_a_conversation_goes_on_from_is_gone(way):
    """It would keep the frames that it went through, with what the caller has waited for."""
    errors = []

    def steps():
        try:
            yield promise(lambda: None)[0], 0.0
        except GetTimeoutError as error:
            errors.append(weakref.ref(error))

    way(steps())
    assert [error() for error in errors] == [None]
