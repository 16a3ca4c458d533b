"""Coroutines and async generators that Python does not see at first: behind decorators, returned, asked for as one."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest
from tests import sessions

import ray

kept_session = sessions.kept()
mode = sessions.one_after_the_other()


LIMIT_S = 20


def logged(function):
    """Calls it, and leaves the rest to its caller."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        return function(*args, **kwargs)

    return call


def hides(function):
    """The same without a word about what it wraps."""

    def call(*args, **kwargs):
        return function(*args, **kwargs)

    return call


def awaits(function):
    @functools.wraps(function)
    async def call(*args, **kwargs):
        return await function(*args, **kwargs)

    return call


def collects(function):
    @functools.wraps(function)
    async def call(*args, **kwargs):
        return [value async for value in function(*args, **kwargs)]

    return call


def runs(function):
    """Has a loop of its own."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        return asyncio.run(function(*args, **kwargs))

    return call


def get(ref):
    return ray.get(ref, timeout=LIMIT_S)


def drawn(stream):
    return [get(ref) for ref in stream]


async def numbers(n):
    for i in range(n):
        yield i


def test_a_class_whose_only_async_methods_are_decorated(ray_session, mode):
    @ray.remote
    class Decorated:
        def __init__(self):
            self.here = 0

        @logged
        @logged
        async def meets(self):
            self.here += 1
            while self.here < 2 and mode == "processes":  # noqa: ASYNC110 - the other call adds to it
                await asyncio.sleep(0.001)
            return self.here

        @logged
        async def several(self, n):
            for i in range(n):
                yield i

    actor = Decorated.remote()
    assert get([actor.meets.remote(), actor.meets.remote()])[1] == 2
    assert drawn(actor.several.remote(3)) == [0, 1, 2]
    assert drawn(actor.several.remote(0)) == []


def test_what_the_decorator_awaits(ray_session):
    @ray.remote
    class Decorated:
        @awaits
        async def one(self):
            return 1

        @collects
        async def several(self, n):
            for i in range(n):
                yield i

    actor = Decorated.remote()
    assert get([actor.one.remote(), actor.several.remote(3)]) == [1, [0, 1, 2]]


def test_a_decorator_that_runs_a_loop_of_its_own(ray_session):
    @ray.remote
    class Plain:
        @ray.method(in_thread=True)
        @runs
        async def on_a_loop_of_its_own(self):
            return threading.current_thread() is threading.main_thread()

    assert get(Plain.remote().on_a_loop_of_its_own.remote()) is True

    @ray.remote
    @runs
    async def task():
        return 1

    assert get(task.remote()) == 1


def test_async_generators_that_methods_return(ray_session):
    @ray.remote
    class Returns:
        def plain(self, n):
            return numbers(n)

        async def several(self, n):
            return numbers(n)

        @ray.method(num_returns="streaming")
        def streams(self, n):
            return numbers(n)

        @ray.method(num_returns="streaming")
        async def awaited_and_streams(self, n):
            return numbers(n)

    actor = Returns.remote()
    for method in (actor.plain, actor.several, actor.streams.options(num_returns=1)):
        with pytest.raises(TypeError, match='num_returns="streaming"'):
            get(method.remote(3))
    assert drawn(actor.streams.remote(3)) == [0, 1, 2]
    assert drawn(actor.awaited_and_streams.remote(3)) == [0, 1, 2]


@pytest.mark.parametrize("decorator", [lambda function: function, logged, hides])
def test_asked_for_as_one(ray_session, decorator):
    @ray.remote
    class Streams:
        several = decorator(numbers_of)

        async def other(self):
            return 1

    actor = Streams.remote()
    with pytest.raises(TypeError, match='num_returns="streaming"'):
        get(actor.several.options(num_returns=1).remote(3))
    assert get(actor.several.options(num_returns=3).remote(3)) == [0, 1, 2]
    assert drawn(actor.several.options(num_returns="streaming").remote(3)) == [0, 1, 2]


async def numbers_of(self, n):
    for i in range(n):
        yield i


def test_what_nobody_awaits(ray_session):
    @ray.remote
    class Hidden:
        @hides
        async def one(self):
            return 1

        @hides
        async def several(self, n):
            for i in range(n):
                yield i

    actor = Hidden.remote()
    for ref in (actor.one.remote(), actor.several.remote(3)):
        with pytest.raises(TypeError, match=r"Hidden\.(one|several) returned .*functools\.wraps"):
            get(ref)
    with pytest.raises(TypeError, match=r"functools\.wraps"):
        drawn(actor.several.options(num_returns="streaming").remote(3))


def test_tasks(ray_session):
    @ray.remote
    @logged
    async def one():
        return 1

    @ray.remote(num_returns="streaming")
    @logged
    async def several():
        yield 1

    for ref in (one.remote(), next(several.remote())):
        with pytest.raises(TypeError) as caught:
            get(ref)
        assert "asyncio.run" in str(caught.value)
