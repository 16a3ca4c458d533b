"""Actors that run many calls at a time: calls that wait for one another meet, and none holds up what it may not."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from tests import sessions

import ray
from ray.exceptions import RayTaskError

LIMIT_S = 40


session = sessions.shared(num_cpus=4)
nothing_left = sessions.unchecked()


class Meeting:
    def __init__(self, expected):
        self.expected = expected
        self.here = 0
        self.all_here = asyncio.Event()

    async def come(self):
        self.here += 1
        if self.here == self.expected:
            self.all_here.set()
        await self.all_here.wait()
        return True

    async def park(self):
        await self.all_here.wait()


@ray.remote(concurrency_groups={"control": 1})
class Gate(Meeting):
    @ray.method(concurrency_group="control")
    async def open(self):
        self.all_here.set()


Crowd = ray.remote(Meeting)


# --- meetings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1999, 2000, 2001, 2002, 10_000])
def test_as_many_meet_as_the_actor_may_run(count):
    meeting = Crowd.options(max_concurrency=count).remote(count)
    assert all(ray.get([meeting.come.remote() for _ in range(count)], timeout=LIMIT_S))


def test_callers_of_their_own_meet():
    count, callers = 2600, 2
    meeting = Crowd.options(max_concurrency=count).remote(count)

    @ray.remote
    def comes(meeting, times):
        return all(ray.get([meeting.come.remote() for _ in range(times)]))

    assert ray.get([comes.remote(meeting, count // callers) for _ in range(callers)], timeout=LIMIT_S) == [True, True]


def test_a_handle_that_was_looked_up():
    count = 2300
    meeting = Crowd.options(max_concurrency=count, name="meeting").remote(count)
    found = ray.get_actor("meeting")
    assert all(ray.get([found.come.remote() for _ in range(count)], timeout=LIMIT_S))
    del meeting


def test_a_crowd_of_one_group_holds_up_no_other():
    meeting = Gate.options(max_concurrency=10).remote(0)
    parked = [meeting.park.remote() for _ in range(3000)]
    ray.get(meeting.open.remote(), timeout=LIMIT_S)
    ray.get(parked, timeout=LIMIT_S)


# --- concurrency groups -----------------------------------------------------------------------------------------------


@ray.remote(concurrency_groups={"io": 2, "work": 2})
class Groups:
    """Its plain methods wait on their thread until they are let go."""

    def __init__(self):
        self.gate = threading.Event()
        self.flag = asyncio.Event()
        self.running = self.peak = 0
        self.lock = threading.Lock()

    def _hold(self):
        with self.lock:
            self.running += 1
            self.peak = max(self.peak, self.running)
        assert self.gate.wait(LIMIT_S)
        time.sleep(0.02)
        with self.lock:
            self.running -= 1

    def holds(self):
        self._hold()

    @ray.method(concurrency_group="work")
    def holds_in_group(self):
        self._hold()

    @ray.method(concurrency_group="io")
    async def opens(self):
        self.gate.set()

    @ray.method(concurrency_group="io")
    def opens_plainly(self):
        self.gate.set()

    async def opens_in_default(self):
        self.gate.set()

    def most(self):
        return self.peak

    async def waits(self):
        await self.flag.wait()
        return threading.get_ident()

    @ray.method(concurrency_group="io")
    def sets(self):
        self.flag.set()
        return threading.get_ident()


@pytest.mark.parametrize(
    ("holds", "opens"),
    [
        ("holds", "opens"),
        ("holds", "opens_plainly"),
        ("holds", "opens_in_default"),
        ("holds_in_group", "opens"),
        ("holds_in_group", "opens_plainly"),
        ("holds_in_group", "opens_in_default"),
    ],
)
def test_a_plain_method_holds_up_no_other_group(holds, opens):
    actor = Groups.remote()
    held = [getattr(actor, holds).remote() for _ in range(3)]
    ray.get(getattr(actor, opens).remote(), timeout=LIMIT_S)
    ray.get(held, timeout=LIMIT_S)
    assert ray.get(actor.most.remote(), timeout=LIMIT_S) <= {"holds": 1, "holds_in_group": 2}[holds]


def test_a_plain_method_wakes_the_coroutines():
    """What it does to an asyncio object beside the loop is seen at its end, at the latest."""
    actor = Groups.remote()
    waits = [actor.waits.remote() for _ in range(3)]
    beside = ray.get(actor.sets.remote(), timeout=LIMIT_S)
    assert beside not in ray.get(waits, timeout=LIMIT_S)


@ray.remote(concurrency_groups={"io": 1, "work": 1})
class Plain:
    def work(self):
        return 1


@ray.remote
class WithoutGroups:
    async def work(self):
        return 1


@pytest.mark.parametrize(("cls", "names"), [(Groups, "'io', 'work'"), (Plain, "'io', 'work'"), (WithoutGroups, "none")])
def test_a_group_that_the_class_does_not_have(cls, names):
    actor = cls.options(name=f"misspelt-{cls.__name__}").remote()
    method = "most" if cls is Groups else "work"
    for handle in (actor, ray.get_actor(f"misspelt-{cls.__name__}")):
        with pytest.raises(ValueError, match=f"'wrok'.*{names}") as caught:
            ray.get(getattr(handle, method).options(concurrency_group="wrok").remote(), timeout=LIMIT_S)
        assert handle is not actor or not isinstance(caught.value, RayTaskError)  # at the call, where it is known

    @ray.remote
    def calls(handle):
        return ray.get(getattr(handle, method).options(concurrency_group="wrok").remote())

    with pytest.raises(ValueError, match=f"'wrok'.*{names}"):
        ray.get(calls.remote(actor), timeout=LIMIT_S)
    if cls is not WithoutGroups:
        ray.get(getattr(actor, method).options(concurrency_group="io").remote(), timeout=LIMIT_S)


# --- the user's tasks -------------------------------------------------------------------------------------------------


def eager(loop, coroutine, **options):
    """As ``asyncio.eager_task_factory`` does it from Python 3.12 on, but that no task is current meanwhile."""
    future = loop.create_future()
    try:
        waits_for = coroutine.send(None)
    except StopIteration as end:
        future.set_result(end.value)
        return future
    except Exception as error:
        future.set_exception(error)
        return future

    async def goes_on():
        nonlocal waits_for
        while True:
            if waits_for is None:
                await asyncio.sleep(0)
            else:
                waits_for._asyncio_future_blocking = False
                await asyncio.wait([waits_for])
            try:
                waits_for = coroutine.send(None)
            except StopIteration as end:
                return end.value

    return asyncio.Task(goes_on(), loop=loop)


def refuses(loop, coroutine, **options):
    coroutine.close()
    raise RuntimeError("no tasks today")


def eager_of_python():
    return getattr(asyncio, "eager_task_factory", None)


FACTORIES = {"eager": lambda: eager, "python's": eager_of_python, "refuses": lambda: refuses}


@ray.remote
class Tasks:
    async def take(self, factory):
        asyncio.get_running_loop().set_task_factory(FACTORIES[factory]())

    async def add(self, a, b):
        await asyncio.sleep(0.001)
        return a + b

    def plain(self, a):
        return a

    @ray.method(in_thread=True)
    def beside(self, a):
        return a

    async def large(self, nbytes):
        return b"x" * nbytes

    async def raises(self):
        raise KeyError("as asked")

    async def several(self, n):
        for i in range(n):
            yield i

    async def inner(self):
        return await asyncio.create_task(self.add(1, 2))


@pytest.mark.parametrize("factory", FACTORIES)
def test_every_call_is_answered_whatever_makes_the_tasks(factory):
    actor = Tasks.remote()
    ray.get(actor.take.remote(factory), timeout=LIMIT_S)
    assert ray.get([actor.add.remote(i, 1) for i in range(50)], timeout=LIMIT_S) == [i + 1 for i in range(50)]
    assert ray.get([actor.plain.remote(3), actor.beside.remote(4)], timeout=LIMIT_S) == [3, 4]
    assert len(ray.get(actor.large.remote(300_000), timeout=LIMIT_S)) == 300_000
    assert len(ray.get(actor.plain.remote(ray.put(b"x" * 300_000)), timeout=LIMIT_S)) == 300_000
    with pytest.raises(KeyError):
        ray.get(actor.raises.remote(), timeout=LIMIT_S)
    assert [ray.get(ref, timeout=LIMIT_S) for ref in actor.several.remote(3)] == [0, 1, 2]
    if factory == "refuses":
        with pytest.raises(RuntimeError, match="no tasks today"):
            ray.get(actor.inner.remote(), timeout=LIMIT_S)
    else:
        assert ray.get(actor.inner.remote(), timeout=LIMIT_S) == 3
    ray.get(actor.__ray_terminate__.remote(), timeout=LIMIT_S)


def test_a_call_on_a_thread_is_answered_although_its_task_was_cancelled():
    @ray.remote
    class Beside:
        def __init__(self):
            self.gate = threading.Event()

        @ray.method(in_thread=True)
        def holds(self):
            assert self.gate.wait(LIMIT_S)
            return "held"

        async def meddles(self):
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            self.gate.set()

    actor = Beside.options(max_concurrency=10).remote()
    held = [actor.holds.remote() for _ in range(5)]
    ray.get(actor.meddles.remote(), timeout=LIMIT_S)
    assert ray.get(held, timeout=LIMIT_S) == ["held"] * 5
