"""``num_returns``: a task returns as many objects as it says, or fails with a sentence that names both numbers."""

import re

import pytest
from tests.api.one_session import nothing_left, session

import ray

__all__ = ["nothing_left", "session"]


@ray.remote
def give(value):
    return value


@ray.remote(num_returns=2)
def generate(count):
    yield from range(count)


class Indexed:
    def __init__(self, count):
        self.count = count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        return index


class Sized(Indexed):
    def __len__(self):
        return self.count


def fails_with(refs, kind, text):
    assert refs
    for ref in refs:
        with pytest.raises(kind, match=text) as caught:
            ray.get(ref, timeout=30)
        assert isinstance(caught.value, ray.exceptions.RayTaskError)


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize("count", [0, 1, 3, 1000])
def test_another_number_of_results_is_refused(kind, count):
    refs = give.options(num_returns=2).remote(kind(range(count)))
    fails_with(refs, ValueError, f"Task returned {count} objects, but num_returns=2")


@pytest.mark.parametrize("value", ["ab", "abc", "", b"ab", bytearray(b"ab")])
def test_a_string_is_one_result(value):
    fails_with(give.options(num_returns=2).remote(value), ValueError, "which is one object, but num_returns=2")


@pytest.mark.parametrize("value", [{"a": 1, "b": 2}, {0: 1, 1: 2}, {1, 2}, frozenset({1, 2})])
def test_what_has_no_order_is_refused(value):
    text = f"Task returned a {type(value).__name__}, but num_returns=2 needs a tuple or a list"
    fails_with(give.options(num_returns=2).remote(value), TypeError, text)


def test_what_can_be_indexed():
    assert ray.get(give.options(num_returns=2).remote(Indexed(2))) == [0, 1]
    assert ray.get(give.options(num_returns=2).remote(Sized(2))) == [0, 1]
    assert ray.get(give.options(num_returns=2).remote(range(2))) == [0, 1]
    fails_with(give.options(num_returns=2).remote(Indexed(3)), ValueError, "3 or more objects, but num_returns=2")
    fails_with(give.options(num_returns=2).remote(Indexed(1)), ValueError, "too few objects, but num_returns=2")
    fails_with(give.options(num_returns=2).remote(Sized(3)), ValueError, "3 objects, but num_returns=2")
    fails_with(give.options(num_returns=2).remote(Sized(1)), ValueError, "1 objects, but num_returns=2")


def test_generators():
    assert ray.get(generate.remote(2)) == [0, 1]
    fails_with(generate.remote(1), ValueError, "returned 1 objects, but num_returns=2")
    fails_with(generate.remote(10**18), ValueError, "returned 3 or more objects, but num_returns=2")


def test_methods():
    @ray.remote
    class Actor:
        @ray.method(num_returns=2)
        def give(self, value):
            return value

    actor = Actor.remote()
    assert ray.get(actor.give.remote([1, 2])) == [1, 2]
    fails_with(actor.give.remote([1, 2, 3]), ValueError, "returned 3 objects, but num_returns=2")
    fails_with(actor.give.remote("ab"), ValueError, "a str, which is one object, but num_returns=2")


def test_async_methods():
    pytest.importorskip("ray_async")

    @ray.remote
    class Actor:
        @ray.method(num_returns=2)
        async def give(self, value):
            return value

        @ray.method(num_returns=2)
        async def count(self, limit):
            for number in range(limit):
                yield number

    actor = Actor.remote()
    assert ray.get(actor.give.remote([1, 2])) == [1, 2]
    fails_with(actor.give.remote([1, 2, 3]), ValueError, "returned 3 objects, but num_returns=2")
    fails_with(actor.give.remote("ab"), ValueError, "a str, which is one object, but num_returns=2")
    assert ray.get(actor.count.remote(2)) == [0, 1]
    fails_with(actor.count.remote(1), ValueError, "returned 1 objects, but num_returns=2")
    fails_with(actor.count.remote(1000), ValueError, "returned 3 or more objects, but num_returns=2")


@pytest.mark.parametrize("value", ["abc", b"abc", {"a": 1}, {1, 2}, 5])
def test_streams_of_what_is_no_stream(value):
    refs = give.options(num_returns="streaming").remote(value)
    with pytest.raises(TypeError, match=f"needs a generator, not {type(value).__name__}: yield the values"):
        ray.get(next(refs))


def test_a_generator_is_no_single_result():
    """The error says what makes it work."""

    @ray.remote
    def one():
        yield 1

    @ray.remote
    class Actor:
        def one(self):
            yield 1

    for ref in (one.remote(), Actor.remote().one.remote(), give.remote([1]) and one.options(num_returns=1).remote()):
        with pytest.raises(TypeError, match=re.escape('Give the task num_returns="streaming"')):
            ray.get(ref)
    with pytest.raises(TypeError, match=re.escape("list(...)")):
        give.remote(number for number in range(3))
    with pytest.raises(TypeError, match=re.escape("list(...)")):
        ray.put([(number for number in range(3))])
