"""Handles that only cycles of references keep: nobody waits for ever for what their actors hold."""

from __future__ import annotations

import functools
import gc
import time
import typing

import pytest

import ray
from ray.exceptions import RayActorError
from ray.testing import eventually

LIMIT_S = 30.0


def get(refs):
    return ray.get(refs, timeout=LIMIT_S)


@pytest.fixture(autouse=True)
def _no_chance_collections():
    """The interpreter looks for cycles by itself now and then."""
    gc.disable()
    yield
    gc.enable()


@ray.remote(num_cpus=1)
class Holder:
    def __init__(self):
        self.kept = []

    def value(self):
        return 1

    def keep_in_a_cycle(self, handles):
        gc.disable()
        handles.append(handles)


class Closer:
    """A destructor that calls and waits."""

    said: typing.ClassVar = []

    def __init__(self, kept, called):
        self.kept = kept
        self.called = called
        self.me = self

    def __del__(self):
        try:
            self.said.append(get(self.called().value.remote()))
        except RayActorError:
            self.said.append("too late")


def the_same(actor):
    return actor


def drop_in_a_cycle(actor):
    ring = [actor]
    ring.append(ring)


@ray.remote
def f():
    return 2


def test_the_next_actor_gets_the_room(start):
    start(num_cpus=1)
    for _ in range(2):
        actor = Holder.remote()
        assert get(actor.value.remote()) == 1
        drop_in_a_cycle(actor)
        del actor


@pytest.mark.slow
def test_tasks_get_the_room(start):
    start(num_cpus=2, resources={"mark": 1})
    actor = Holder.options(num_cpus=2, resources={"mark": 1}).remote()
    get(actor.value.remote())
    drop_in_a_cycle(actor)
    del actor
    assert get([f.remote() for _ in range(3)]) == [2] * 3
    assert get(f.options(resources={"mark": 1}).remote()) == 2


@pytest.mark.slow
def test_handles_in_the_cycles_of_workers(start):
    start(num_cpus=1)
    actor, keeper = Holder.remote(), Holder.options(num_cpus=0).remote()
    get(actor.value.remote())
    get(keeper.keep_in_a_cycle.remote([actor]))
    del actor
    assert get(f.remote()) == 2


@pytest.mark.slow
def test_destructors_may_call_and_wait(start):
    start(num_cpus=1)
    other = Holder.options(num_cpus=0, name="other").remote()
    Closer.said.clear()
    for _ in range(2):
        actor = Holder.remote()
        get(actor.value.remote())
        Closer(actor, functools.partial(ray.get_actor, "other"))
        del actor
    assert get(f.remote()) == 2
    eventually(lambda: len(Closer.said) == 2)  # the collector may come to the handle before it comes to its closer
    assert Closer.said == [1, 1]
    del other


def test_a_destructor_that_uses_what_was_collected_with_it(start):
    """It may come too late: then it is told."""
    start(num_cpus=1)
    Closer.said.clear()
    for _ in range(20):
        actor = Holder.options(num_cpus=0).remote()
        Closer(actor, functools.partial(the_same, actor))
        del actor
    gc.collect()
    assert len(Closer.said) == 20
    assert set(Closer.said) <= {1, "too late"}


@pytest.mark.slow
def test_handles_in_use_are_kept(start):
    start(num_cpus=1)
    actor = Holder.remote()
    get(actor.value.remote())
    ring = [actor]
    ring.append(ring)
    del actor
    waiting = f.remote()
    time.sleep(1.5)
    assert ray.wait([waiting], timeout=50)[0] == []
    assert get(ring[0].value.remote()) == 1
    ring.clear()
    assert get(waiting) == 2


@ray.remote(num_cpus=0)
def later(value):
    return value


class Asks:
    """Asks, when it is collected, for a ref that is collected with it."""

    def __init__(self, ref, answers):
        self.ref, self.answers, self.me = ref, answers, self

    def __del__(self):
        try:
            self.answers.append(get(self.ref))
        except ray.exceptions.RayError as error:
            self.answers.append(error)


@pytest.mark.parametrize(
    "make", [later.remote, ray.put, lambda value: ray.put([value, b"x" * 200_000])], ids=["task", "put", "stored"]
)
def test_a_destructor_in_a_cycle_with_a_ref_may_ask_for_it(start, make):
    start(num_cpus=2)
    answers = []
    for number in range(20):
        ref = make(number)
        Asks(ref, answers)
        del ref
        gc.collect()
    assert len(answers) == 20
    assert sum(not isinstance(answer, ray.exceptions.RayError) for answer in answers) > 0
    for number, answer in enumerate(answers):
        if isinstance(answer, ray.exceptions.RayError):
            assert type(answer) is ray.exceptions.ObjectLostError
            assert "the garbage collector has finalised its last reference" in str(answer)
        else:
            assert answer in (number, [number, b"x" * 200_000])
