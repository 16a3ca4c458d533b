"""Streams of local mode: made at the call until they are far ahead of their consumer, then as it asks."""

import asyncio
import contextlib
import functools
import itertools
import time
from importlib.util import find_spec

import pytest

import ray
from ray.exceptions import RayActorError, TaskTimeoutError

AHEAD = 256
ENDLESS = 3 * AHEAD

needs_loop = pytest.mark.skipif(find_spec("ray_async") is None, reason="needs ray-async")
made: list[str] = []


@pytest.fixture(autouse=True)
def session():
    made.clear()
    with ray.init(local_mode=True, num_cpus=1):
        yield


def numbers(self=None):
    made.append("begun")
    try:
        for number in itertools.count():
            made.append(str(number))
            yield number
    finally:
        made.append("closed")


async def async_numbers(self):
    made.append("begun")
    try:
        for number in itertools.count():
            await asyncio.sleep(0)
            made.append(str(number))
            yield number
    finally:
        await asyncio.sleep(0)
        made.append("closed")


def of_task():
    return ray.remote(num_returns="streaming")(numbers).remote()


def of_iterator():
    return ray.remote(num_returns="streaming")(lambda: iter(numbers())).remote()


def of_actor():
    return (
        ray.remote(type("A", (), {"numbers": ray.method(num_returns="streaming")(numbers)})).remote().numbers.remote()
    )


def of_async_actor():
    return ray.remote(type("A", (), {"numbers": async_numbers})).remote().numbers.remote()


def of_async_method():
    async def plain(self):
        return numbers()

    cls = type("A", (), {"numbers": ray.method(num_returns="streaming")(plain)})
    return ray.remote(cls).remote().numbers.remote()


endless = pytest.mark.parametrize(
    "begin",
    [
        of_task,
        of_iterator,
        of_actor,
        pytest.param(of_async_actor, marks=needs_loop),
        pytest.param(of_async_method, marks=needs_loop),
    ],
)


@endless
def test_an_endless_stream_waits_for_its_consumer(begin):
    stream = begin()
    assert "0" in made  # it runs at the call
    assert len(made) <= 1 + AHEAD
    assert [ray.get(ref) for ref in itertools.islice(stream, ENDLESS)] == [*range(ENDLESS)]
    assert ENDLESS <= len(made) <= ENDLESS + AHEAD + 1
    stream.close()
    assert made[-1] == "closed"
    assert list(stream) == []


@endless
def test_an_endless_stream_on_a_loop(begin):
    async def main():
        async with contextlib.aclosing(begin()) as stream:
            values = []
            async for ref in stream:
                values.append(await ref)
                if len(values) == ENDLESS:
                    return values
        return None

    assert asyncio.run(main()) == [*range(ENDLESS)]
    assert made[-1] == "closed"


@endless
def test_a_dropped_stream_is_closed(begin):
    begin()
    ray.put(None)
    assert made[-1] == "closed"


@endless
def test_the_session_closes_what_is_open(begin):
    stream = begin()
    ray.shutdown()
    assert made[-1] == "closed"
    del stream


def test_a_slow_endless_stream_keeps_its_caller_for_a_moment():
    @ray.remote(num_returns="streaming")
    def ticks():
        for number in itertools.count():
            made.append(str(number))
            yield number
            time.sleep(0.7)

    with contextlib.closing(ticks.remote()) as stream:
        assert len(made) <= 3
        assert [ray.get(next(stream)) for _ in range(3)] == [0, 1, 2]


def test_large_values_count_more():
    @ray.remote(num_returns="streaming")
    def large():
        for number in itertools.count():
            made.append(str(number))
            yield bytes(4 << 20)

    with contextlib.closing(large.remote()) as stream:
        assert len(made) <= 5
        assert len([next(stream) for _ in range(20)]) == 20


@pytest.mark.parametrize("count", [3, AHEAD, AHEAD + 1, ENDLESS])
def test_a_late_failure_comes_last(count):
    @ray.remote(num_returns="streaming", max_retries=0)
    def fails():
        yield from range(count)
        raise KeyError("the end")

    *refs, last = fails.remote()
    assert ray.get(refs) == [*range(count)]
    with pytest.raises(KeyError, match="the end"):
        ray.get(last)


def test_a_late_failure_is_retried():
    @ray.remote(num_returns="streaming", max_retries=1, retry_exceptions=True)
    def fails_once():
        yield from range(ENDLESS)
        made.append("tried")
        if len(made) == 1:
            raise KeyError
        yield "more"

    assert [ray.get(ref) for ref in fails_once.remote()] == [*range(ENDLESS), "more"]
    assert made == ["tried"] * 2


def test_a_time_limit_is_noticed_later():
    @ray.remote(num_returns="streaming", timeout_s=1e-9)
    def late():
        yield from range(10)

    *_, last = late.remote()
    with pytest.raises(TaskTimeoutError):
        ray.get(last)


@endless
def test_nested_consumers(begin):
    @ray.remote
    def first(count):
        with contextlib.closing(begin()) as stream:
            return [ray.get(ref) for ref in itertools.islice(stream, count)]

    assert ray.get(first.remote(ENDLESS)) == [*range(ENDLESS)]
    assert made[-1] == "closed"


class Counter:
    def __init__(self):
        self.count = 0

    @ray.method(num_returns="streaming")
    def endless(self):
        while True:
            self.count += 1
            yield self.count, ray.get_runtime_context().get_task_name()

    @ray.method(num_returns="streaming")
    def leaves(self):
        yield from range(ENDLESS)
        ray.actor.exit_actor()

    def counted(self):
        return self.count


def test_calls_of_the_actor_come_between():
    counter = ray.remote(Counter).remote()
    with contextlib.closing(counter.endless.remote()) as stream:
        assert ray.get(counter.counted.remote()) == AHEAD
        assert ray.get([*itertools.islice(stream, ENDLESS)][-1]) == (ENDLESS, "Counter.endless")
        assert ray.get(counter.counted.remote()) == ENDLESS


@pytest.mark.parametrize("no_restart", [True, False])
def test_the_actor_is_killed(no_restart):
    counter = ray.remote(Counter).options(max_restarts=1).remote()
    stream = counter.endless.remote()
    ray.kill(counter, no_restart=no_restart)
    *refs, last = stream
    assert len(refs) == AHEAD
    with pytest.raises(RayActorError):
        ray.get(last)


def test_the_actor_leaves():
    counter = ray.remote(Counter).remote()
    *refs, last = counter.leaves.remote()
    assert len(refs) == ENDLESS
    for ref in (last, counter.counted.remote()):
        with pytest.raises(RayActorError):
            ray.get(ref)


@needs_loop
@pytest.mark.parametrize("count", [2, 3])
def test_a_fixed_count_of_an_endless_generator(count):
    actor = ray.remote(type("A", (), {"numbers": async_numbers})).remote()
    with pytest.raises(ValueError, match=f"{count + 1} or more objects"):
        ray.get(actor.numbers.options(num_returns=count).remote())
    assert made[-1] == "closed"


def test_a_stream_that_waits_for_itself():
    box = []

    @ray.remote(num_returns="streaming", max_retries=0)
    def draws():
        yield from range(AHEAD)
        yield [*map(ray.get, box[0])]

    box.append(draws.remote())
    *_, last = box[0]
    with pytest.raises(RuntimeError, match=r"own stream|one consumer"):
        ray.get(last)


def test_what_closing_raises_is_nobodys():
    @ray.remote(num_returns="streaming")
    def stubborn():
        try:
            yield from itertools.count()
        finally:
            made.append("closed")
            raise KeyError

    stubborn.remote().close()
    assert made == ["closed"]


def test_aclose_of_a_finished_stream_has_no_effect():
    finished = ray.remote(num_returns="streaming")(functools.partial(range, 2)).remote()
    assert len(list(finished)) == 2
    asyncio.run(finished.aclose())
