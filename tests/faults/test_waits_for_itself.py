"""An actor that waits for a call of its own, which cannot begin before it has ended, is told so instead of hanging."""

import asyncio
import importlib.util
import threading
import time

import pytest

import ray
from ray.exceptions import BlockingCallError, GetTimeoutError


@pytest.fixture(scope="module")
def session():
    with ray.init(num_cpus=4) as started:
        yield started


@pytest.fixture(autouse=True)
def nothing_left(session):
    """Takes the place of the check around each test, which wants no session."""


@ray.remote
class Box:
    def __init__(self):
        self.refs = []

    def fill(self, refs):
        self.refs = refs

    def take(self):
        return self.refs


def me():
    return ray.get_runtime_context().current_actor


class Plain:
    def one(self):
        return 1

    @ray.method(num_returns="streaming")
    def stream(self):
        yield 1

    def later(self, waited_for):
        return waited_for

    def get(self):
        return ray.get(me().one.remote())

    def get_of_a_list(self):
        return ray.get([nap.remote(0), me().one.remote(), nap.remote(0)])

    def wait(self):
        return len(ray.wait([nap.remote(0), me().one.remote()], num_returns=2)[0])

    def next_of_a_stream(self):
        return [ray.get(ref) for ref in me().stream.remote()]

    def get_behind_an_argument(self):
        return ray.get(me().later.remote(nap.remote(0.1)))

    def get_of_anothers(self, box):
        while not (refs := ray.get(box.take.remote())):
            time.sleep(0.01)
        return ray.get(refs[0])

    def future(self):
        return me().one.remote().future().result()

    def exception_of_a_future(self):
        return me().one.remote().future().exception()

    def loop(self):
        async def main():
            return await me().one.remote()

        return asyncio.run(main())

    def loop_with_several(self):
        async def main():
            return await asyncio.gather(nap.remote(0), asyncio.create_task(both()))

        async def both():
            return await me().one.remote() + await me().one.remote()

        return asyncio.run(main())

    def loop_with_a_future(self):
        async def main():
            return await me().one.remote().as_future()

        return asyncio.run(main())

    # What is no mistake.

    def future_in_time(self):
        with pytest.raises(TimeoutError):
            me().one.remote().future().result(1.5)
        return 1

    def loop_in_time(self):
        async def main():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(me().one.remote(), 2.5)
            return 1

        return asyncio.run(main())

    def loop_that_waits_for_the_other(self):
        async def main():
            own = asyncio.ensure_future(me().one.remote())
            done, _ = await asyncio.wait([own, nap.remote(2.5)], return_when=asyncio.FIRST_COMPLETED)
            return int(own not in done)

        return asyncio.run(main())

    def loop_of_a_slow_task(self):
        async def main():
            return await nap.remote(1.5)

        return asyncio.run(main())

    def wait_for_the_other(self):
        own = me().one.remote()
        ready, rest = ray.wait([own, nap.remote(1.5)])
        return rest == [own] and ray.get(ready[0])

    def get_for_a_while(self):
        with pytest.raises(GetTimeoutError):
            ray.get(me().one.remote(), timeout=1.5)
        return 1

    def get_of_a_slow_task(self):
        return ray.get(nap.remote(1.5))

    def get_on_a_thread(self):
        own = me().one.remote()
        self.found = []
        self.thread = threading.Thread(target=lambda: self.found.append(ray.get(own)))
        self.thread.start()
        self.thread.join(1.5)
        return 1

    def found_on_the_thread(self):
        self.thread.join(30)
        return self.found


@ray.remote
def nap(seconds):
    time.sleep(seconds)
    return 1


Actor = ray.remote(Plain)
#: {method: what it calls}
MISTAKES = {
    "get": "ray.get()",
    "get_of_a_list": "ray.get()",
    "wait": "ray.wait()",
    "next_of_a_stream": "next(stream)",
    "get_behind_an_argument": "ray.get()",
    "future": "future().result()",
    "exception_of_a_future": "future().result()",
    "loop": "await",
    "loop_with_several": "await",
    "loop_with_a_future": "await",
}
NO_MISTAKES = [
    "wait_for_the_other",
    "get_for_a_while",
    "get_of_a_slow_task",
    "future_in_time",
    "loop_in_time",
    "loop_that_waits_for_the_other",
    "loop_of_a_slow_task",
]
needs_loop = pytest.mark.skipif(importlib.util.find_spec("ray_async") is None, reason="needs ray-async")


def test_it_is_told():
    box = Box.remote()
    actors = [Actor.remote() for _ in range(len(MISTAKES) + 1)]
    refs = [getattr(actor, name).remote() for actor, name in zip(actors, MISTAKES, strict=False)]
    refs.append(actors[-1].get_of_anothers.remote(box))
    box.fill.remote([actors[-1].one.remote()])
    for ref, call in zip(refs, [*MISTAKES.values(), "ray.get()"], strict=True):
        with pytest.raises(BlockingCallError, match=r"wait for ever.* self\.method\(\).*max_concurrency=2") as caught:
            ray.get(ref, timeout=30)
        assert str(caught.value).startswith(f"{call} in a method of the actor Plain waits for")
        assert (caught.value.call, caught.value.actor) == (call.removesuffix("()"), "Plain")
    assert ray.get([actor.one.remote() for actor in actors], timeout=30) == [1] * len(actors)


def test_it_may_catch_that():
    @ray.remote
    class Catching(Plain):
        def get(self):
            own = me().one.remote()
            with pytest.raises(BlockingCallError):
                ray.get(own)
            return [own]

    actor = Catching.remote()
    [own] = ray.get(actor.get.remote(), timeout=30)
    assert ray.get(own, timeout=30) == 1


class Waiting(Plain):
    def __init__(self):
        self.one_of_them = ray.get(me().one.remote())


class Async(Waiting):
    async def sleep(self):
        return 1


def test_an_actor_that_waits_for_itself_while_it_is_made():
    made = [ray.remote(Waiting), ray.remote(Waiting).options(max_concurrency=2), ray.remote(Async)]
    for ref in [cls.remote().one.remote() for cls in made]:
        with pytest.raises(BlockingCallError, match="would wait for ever") as caught:
            ray.get(ref, timeout=30)
        assert ".. " not in str(caught.value)


@pytest.mark.slow
def test_others_wait_as_ever():
    actors = [Actor.remote() for _ in NO_MISTAKES]
    refs = [getattr(actor, name).remote() for actor, name in zip(actors, NO_MISTAKES, strict=True)]
    threaded = Actor.options(max_concurrency=3).remote()
    thread = Actor.remote()
    refs += [threaded.get.remote(), threaded.get_of_a_list.remote(), thread.get_on_a_thread.remote()]
    assert ray.get(refs, timeout=30) == [*[1] * len(NO_MISTAKES), 1, [1, 1, 1], 1]
    assert ray.get(thread.found_on_the_thread.remote(), timeout=30) == [1]


class Nested:
    def down(self, depth):
        return depth and 1 + ray.get(me().down.remote(depth - 1))

    def down_by_a_loop(self, depth):
        async def main():
            return 1 + await me().down_by_a_loop.remote(depth - 1)

        return depth and asyncio.run(main())

    def down_by_a_future(self, depth):
        return depth and 1 + me().down_by_a_future.remote(depth - 1).future().result()

    def nap(self, seconds):
        time.sleep(seconds)
        return 0


class Across(Nested):
    @ray.method(concurrency_group="side")
    def across(self, depth):
        return depth and 1 + ray.get(me().down.remote(depth - 1))


class NestedAsync:
    async def down(self, depth):
        return depth and 1 + await me().down.remote(depth - 1)

    async def down_together(self, depth):
        if not depth:
            return 0
        _, below = await asyncio.gather(nap.remote(0), me().down_together.remote(depth - 1))
        return 1 + below

    async def down_in_time(self, depth):
        if not depth:
            return 0
        async with asyncio.timeout(2.5):
            return 1 + await me().down_in_time.remote(depth - 1)

    async def nap(self, seconds):
        await asyncio.sleep(seconds)
        return 0


def crowded(cls, **options):
    return ray.remote(cls).options(max_concurrency=2, **options).remote()


NESTED = [
    (Nested, "down"),
    (Nested, "down_by_a_loop"),
    (Nested, "down_by_a_future"),
    pytest.param(NestedAsync, "down", marks=needs_loop),
    pytest.param(NestedAsync, "down_together", marks=needs_loop),
]


@pytest.mark.parametrize(("cls", "method"), NESTED)
def test_calls_that_take_every_place_and_wait_for_more(cls, method):
    actor = crowded(cls)
    down = getattr(actor, method)
    assert ray.get(down.remote(1), timeout=30) == 1
    with pytest.raises(BlockingCallError, match=r"all the other calls .* a larger max_concurrency") as caught:
        ray.get(down.remote(3), timeout=30)
    assert caught.value.crowded
    # What the one that was told had submitted may still run, in one of the two places.
    assert ray.get(actor.nap.remote(0), timeout=30) == 0


@pytest.mark.slow
@pytest.mark.parametrize("cls", [Nested, pytest.param(NestedAsync, marks=needs_loop)])
def test_a_place_that_becomes_free_is_waited_for(cls):
    actor = crowded(cls)
    slow = actor.nap.remote(2.5)
    assert ray.get([actor.down.remote(1), slow], timeout=30) == [1, 0]


@pytest.mark.slow
@needs_loop
def test_a_wait_of_limited_length_goes_on():
    with pytest.raises(TimeoutError):
        ray.get(crowded(NestedAsync).down_in_time.remote(2), timeout=30)


def test_each_concurrency_group_has_its_own_places():
    actor = crowded(Across, concurrency_groups={"side": 1})
    assert ray.get(actor.across.remote(2), timeout=30) == 2
    with pytest.raises(BlockingCallError):
        ray.get(actor.across.remote(3), timeout=30)
