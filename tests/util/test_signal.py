"""``ray.experimental.signal``: what tasks and actors send, and failures."""

import time
from datetime import timedelta

import pytest
from tests.sessions import shared, unchecked

import ray
from ray.experimental import signal
from ray.util.sync import Event

session = shared(num_cpus=4)
nothing_left = unchecked()


class Told(signal.Signal):
    def __init__(self, value):
        self.value = value


@ray.remote
def tell(values, pause=0.0):
    for value in values:
        time.sleep(pause)
        signal.send(Told(value))
    return len(values)


@ray.remote
def fail():
    raise KeyError("lost")


@ray.remote
def fail_after(gate):
    gate.wait()
    raise KeyError("lost")


@ray.remote(num_cpus=0)
class Actor:
    def tell(self, value):
        signal.send(Told(value))


def values(found):
    return [each.value for _, each in found]


def test_of_a_task():
    ref = tell.remote([1, 2])
    ray.get(ref)
    found = signal.receive([ref], timeout=20)
    assert values(found) == [1, 2]
    assert found[0][0] is ref
    assert signal.receive([ref], timeout=0.1) == []


def test_of_an_actor():
    actor = Actor.remote()
    assert signal.receive([actor], timeout=0.1) == []
    actor.tell.remote(3)
    assert [(source, each.value) for source, each in signal.receive([actor], timeout=20)] == [(actor, 3)]


def test_it_waits_for_any():
    quiet, loud = Actor.remote(), tell.remote([7], 0.3)
    assert values(signal.receive([quiet, loud])) == [7]


def test_failures_come_of_themselves_once():
    ref = fail.remote()
    ((source, error),) = signal.receive([ref], timeout=20)
    assert source is ref
    assert isinstance(error, signal.ErrorSignal)
    assert "lost" in error.error()
    assert signal.receive([ref], timeout=0.1) == []


def test_a_failure_that_comes_after_it_has_looked(monkeypatch):
    gate = Event()
    ref = fail_after.remote(gate)
    look = signal._failures

    def look_too_early(by_id):
        found = look(by_id)
        gate.set()
        ray.wait([ref], timeout=timedelta(seconds=20))
        return found

    monkeypatch.setattr(signal, "_failures", look_too_early)
    assert [source for source, _ in signal.receive([ref], timeout=5)] == [ref]


def test_forget_and_reset():
    actor = Actor.remote()
    ray.get(actor.tell.remote(1))
    signal.forget([actor])
    ray.get(actor.tell.remote(2))
    assert values(signal.receive([actor], timeout=20)) == [2]
    signal.reset()
    assert values(signal.receive([actor], timeout=20)) == [1, 2]


def test_bad_calls():
    with pytest.raises(ValueError, match="one source or more"):
        signal.receive([])
    with pytest.raises(TypeError, match="source of signals"):
        signal.receive([1])
    with pytest.raises(ValueError, match="non-negative"):
        signal.receive([Actor.remote()], timeout=-1)
    with pytest.raises(RuntimeError, match="task or an actor"):
        signal.send(Told(1))
