"""What is wrong with the arguments of ``map`` and ``as_completed`` is said at the call."""

import asyncio

import pytest

import ray
import ray_async


@pytest.fixture(autouse=True)
def open_session(session):
    """One for each test."""


@ray.remote
def double(x):
    return 2 * x


async def each(values):
    for value in values:
        yield value


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda ref: ray_async.map(double, 3), TypeError, r"iterable of items, not 3 \(int\)"),
        (lambda ref: ray_async.map(double, None), TypeError, "iterable of items, not None"),
        (lambda ref: ray_async.map(double, ref), TypeError, "not one object ref: put it into a list"),
        (lambda ref: ray_async.map(len, [1]), TypeError, "returns an object ref.*len.*@ray.remote"),
        (lambda ref: ray_async.map(int, [1]), TypeError, "returns an object ref"),
        (lambda ref: ray_async.map([].append, [1]), TypeError, "returns an object ref"),
        (lambda ref: ray_async.map(3, [1]), TypeError, "returns an object ref"),
        (lambda ref: ray_async.map(double, [1], limit="3"), TypeError, "limit must be a whole number, not '3'"),
        (lambda ref: ray_async.map(double, [1], limit=2.0), TypeError, "limit must be a whole number"),
        (lambda ref: ray_async.map(double, [1], limit=True), TypeError, "limit must be a whole number"),
        (lambda ref: ray_async.map(double, [1], limit=0), ValueError, "limit must be at least 1"),
        (lambda ref: ray_async.as_completed(ref), TypeError, "not one object ref: put it into a list"),
        (lambda ref: ray_async.as_completed(7), TypeError, r"iterable of object refs, not 7 \(int\)"),
        (lambda ref: ray_async.as_completed([ref, ref]), ValueError, "twice"),
        (lambda ref: ray_async.as_completed((ref, 1)), ValueError, "1 \\(int\\)"),
        (lambda ref: ray_async.as_completed("refs"), ValueError, "'r' \\(str\\)"),
        (lambda ref: ray_async.as_completed([ref], limit="3"), TypeError, "limit must be a whole number"),
        (lambda ref: ray_async.as_completed([ref], limit=-1), ValueError, "limit must be at least 1"),
    ],
)
def test_refused_at_the_call(make, kind, text):
    with pytest.raises(kind, match=text):
        make(double.remote(1))


def test_what_is_accepted():
    async def main():
        refs = [double.remote(i) for i in range(4)]
        found = [await ref async for ref in ray_async.as_completed({*refs}, limit=2)]
        assert sorted(found) == [0, 2, 4, 6]
        assert [x async for x in ray_async.map(lambda x: double.remote(x), range(3))] == [0, 2, 4]
        assert [x async for x in ray_async.map(double.remote, each([1, 2]), limit=1)] == [2, 4]
        assert [x async for x in ray_async.map(double, "")] == []
        with pytest.raises(TypeError, match="returned 3"):
            await anext(ray_async.map(lambda x: x, [3]))

    asyncio.run(main())
