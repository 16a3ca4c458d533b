"""A caller gets what a method returned or yielded as it was then, whatever the actor does with it afterwards."""

from __future__ import annotations

import asyncio
import collections
import functools

import pytest
from tests.api.one_session import nothing_left, session

import ray

np = pytest.importorskip("numpy")
pytest.importorskip("ray_async")

__all__ = ["nothing_left", "session"]

#: In items of 8 bytes: a value that goes with the reply, and one that goes into the node's store.
SMALL, LARGE = SIZES = (6_000, 200_000)
CALLS = 12


class Holder:
    """Keeps one array, whose items are all the number of the step, and hands it out in many ways."""

    def __init__(self, size):
        self.array = np.zeros(size)
        self.data = bytearray(8 * size)

    def advance(self):
        self.array += 1
        self.data[:] = bytes([self.data[0] + 1]) * len(self.data)


@ray.remote
class Async(Holder):
    async def array_of(self):
        self.advance()
        return self.array

    def from_plain_method(self):
        self.advance()
        return self.array

    async def in_a_list(self):
        self.advance()
        return [self.array]

    async def in_a_dict(self):
        self.advance()
        return {"of": {"arrays": self.array}}

    async def bytes_of(self):
        self.advance()
        return self.data

    async def view_of(self):
        self.advance()
        return memoryview(self.data)

    async def frame_of(self):
        self.advance()
        return pytest.importorskip("pandas").DataFrame(self.array, copy=False)

    async def awaited(self):
        return await self.inner()

    async def inner(self):
        await asyncio.sleep(0)
        self.advance()
        return self.array

    async def from_a_task(self):
        """What other tasks of the actor do counts as well."""
        self.spinning = asyncio.create_task(self.spin())
        await asyncio.sleep(0)

    async def spin(self):
        while True:
            self.advance_array()
            await asyncio.sleep(0)

    def advance_array(self):
        self.array += 1

    async def seen(self):
        await asyncio.sleep(0)
        return self.array[0], self.array

    async def stop(self):
        self.spinning.cancel()

    @ray.method(num_returns=2)
    async def two(self):
        self.advance()
        return self.array, [self.array]

    @ray.method(num_returns=2)
    async def large_and_small(self):
        self.advance()
        return self.array, self.array[:50]

    async def grows(self):
        self.data += b"\0"
        return self.data

    async def raises(self):
        self.advance()
        raise ValueError(self.array[:5_000])

    async def stream(self, count):
        for _ in range(count):
            self.advance()
            yield self.array
        self.advance()

    def plain_stream(self, count):
        for _ in range(count):
            self.advance()
            yield self.array
        self.advance()

    async def passes_on(self):
        """Arguments and ``put`` on a loop."""
        calls, stored = [], []
        for _ in range(5):
            self.advance()
            calls.append(first.remote(self.array))
            stored.append(ray.put(self.array))
        self.advance()
        return [await call for call in calls], [number_in(await ref) for ref in stored]


def number_in(value):
    """The number that all items of the value are."""
    while isinstance(value, (list, dict)):
        value = value[0] if isinstance(value, list) else next(iter(value.values()))
    items = np.asarray(value if not isinstance(value, (bytearray, memoryview)) else memoryview(value))
    assert (items == items.flat[0]).all(), "torn"
    return int(items.flat[0])


@ray.remote
def first(value):
    return number_in(value)


@pytest.fixture
def actor():
    return Async.remote(LARGE)


@pytest.fixture
def small():
    return Async.remote(SMALL)


METHODS = ["array_of", "from_plain_method", "in_a_list", "in_a_dict", "bytes_of", "view_of", "frame_of", "awaited"]


def results_of(actor, method):
    if method == "frame_of":
        pytest.importorskip("pandas")
    return list(map(number_in, ray.get([getattr(actor, method).remote() for _ in range(CALLS)], timeout=30)))


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_of_an_async_actor_returns(actor, method):
    assert results_of(actor, method) == list(range(1, CALLS + 1))


def test_small_results(small):
    found = [number for method in METHODS for number in results_of(small, method)]
    assert found == list(range(1, len(METHODS) * CALLS + 1))


def test_each_of_several_returns(actor):
    refs = [actor.two.remote() for _ in range(CALLS)] + [actor.large_and_small.remote() for _ in range(CALLS)]
    found = [list(map(number_in, ray.get(pair, timeout=30))) for pair in refs]
    assert found == [[number, number] for number in range(1, 2 * CALLS + 1)]


def test_beside_other_tasks_of_the_actor(actor):
    ray.get(actor.from_a_task.remote(), timeout=30)
    values = ray.get([actor.seen.remote() for _ in range(CALLS)], timeout=30)
    ray.get(actor.stop.remote(), timeout=30)
    assert all(number_in(array) == seen for seen, array in values)


def test_what_is_returned_may_grow(actor):
    """While a view of its memory is kept, Python refuses that."""
    values = ray.get([actor.grows.remote() for _ in range(CALLS)], timeout=30)
    assert np.diff([len(value) for value in values]).tolist() == [1] * (CALLS - 1)


def test_what_is_in_an_error(actor):
    found = []
    for ref in [actor.raises.remote() for _ in range(CALLS)]:
        with pytest.raises(ValueError) as raised:
            ray.get(ref, timeout=30)
        found.append(number_in(raised.value.args[0]))
    assert found == list(range(1, CALLS + 1))


@pytest.mark.parametrize("method", ["stream", "plain_stream"])
def test_what_is_yielded(actor, method):
    stream = getattr(actor, method).options(num_returns="streaming").remote(5)
    assert [number_in(ray.get(ref, timeout=30)) for ref in stream] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("method", ["stream", "plain_stream"])
def test_what_is_yielded_for_several_returns(actor, method):
    refs = getattr(actor, method).options(num_returns=3).remote(3)
    assert list(map(number_in, ray.get(refs, timeout=30))) == [1, 2, 3]


def test_arguments_and_put_on_a_loop(actor):
    assert ray.get(actor.passes_on.remote(), timeout=30) == ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])


@ray.remote(num_returns=3)
def yields(size, count=3):
    array = np.zeros(size)
    for _ in range(count):
        array += 1
        yield array
    array += 1


@ray.remote(num_returns=3)
def maps(size):
    array = np.zeros(size)
    return map(functools.partial(np.add, array, out=array), (1, 1, 1))


class Frames:
    """Shows one buffer, with other contents for each index."""

    def __init__(self, size):
        self.array = np.zeros(size)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.array[:] = range(1, 4)[index]
        return self.array


@ray.remote(num_returns=3)
def reads(size):
    return Frames(size)


@ray.remote(num_returns=3)
def rows(size):
    return np.repeat([[1.0], [2.0], [3.0]], size, axis=1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", [yields, maps, reads, rows])
def test_what_a_task_yields_for_several_returns(task, size):
    """Each is the value at its ``yield``, as in a stream."""
    assert list(map(number_in, ray.get(task.remote(size), timeout=30))) == [1, 2, 3]


@pytest.mark.parametrize(("count", "said"), [(2, "2"), (4, "4 or more")])
def test_too_few_and_too_many_yields(count, said):
    for ref in yields.remote(200_000, count):
        with pytest.raises(ValueError, match=f"returned {said} objects, but num_returns=3"):
            ray.get(ref, timeout=30)


@ray.remote(num_returns=2)
def gives(kind):
    items = [1, (number for number in range(2))]
    return {"iterator": iter, "list": list, "indexed": collections.UserList}[kind](items)


@pytest.mark.parametrize("kind", ["iterator", "list", "indexed"])
def test_an_item_that_cannot_be_pickled(kind):
    for ref in gives.remote(kind):
        with pytest.raises(TypeError, match="generator"):
            ray.get(ref, timeout=30)


@ray.remote
class Plain(Holder):
    def array_of(self):
        self.advance()
        return self.array


@pytest.mark.parametrize("size", SIZES)
def test_what_a_plain_actor_returns(size):
    assert results_of(Plain.remote(size), "array_of") == list(range(1, CALLS + 1))


@ray.remote
class Given:
    def __init__(self, value):
        self.value = value

    def look(self):
        return number_in(self.value)


@pytest.mark.parametrize(("kind", "size"), [(np.asarray, SMALL), (np.asarray, LARGE), (bytearray, LARGE)])
def test_what_is_handed_over(size, kind):
    """Arguments of tasks and constructors, and of ``put``, may be changed as soon as the call has returned."""
    value = kind(np.zeros(8 * size, np.uint8))
    calls, stored, actors = [], [], []
    for number in range(1, 6):
        value[:] = kind(np.full(len(value), number, np.uint8))
        calls.append(first.remote(value))
        stored.append(ray.put(value))
        if number < 3:
            actors.append(Given.remote(value))
    value[:] = kind(np.full(len(value), 99, np.uint8))
    assert ray.get(calls, timeout=30) == [1, 2, 3, 4, 5]
    assert list(map(number_in, ray.get(stored))) == [1, 2, 3, 4, 5]
    assert ray.get([actor.look.remote() for actor in actors], timeout=60) == [1, 2]
