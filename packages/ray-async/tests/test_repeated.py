"""The same input twice: every ``get`` takes it, the event loop's ``wait`` too; the other waits refuse it."""

import asyncio

import pytest

import ray
from ray.experimental import async_api


@ray.remote
def same(value):
    return value


async def gives(ref):
    await asyncio.sleep(0)
    return ref


def run(loop, main):
    return loop.run_until_complete(asyncio.wait_for(main, 30))


def test_the_wait_of_the_event_loop(loop):
    async def main():
        slow, quick, made = same.remote(0), ray.put(1), gives(ray.put(2))
        assert await loop.wait([quick, quick], num_returns=2) == ([quick, quick], [])
        ready, rest = await loop.wait([slow, quick, slow], num_returns=3, timeout=30)
        assert (ready, rest) == ([slow, quick, slow], [])
        ready, rest = await loop.wait([quick, quick, slow], num_returns=1)
        assert (len(ready), len(rest)) == (1, 2)
        future = asyncio.ensure_future(gives(quick))
        ready, rest = await loop.wait([made, future, made, future], num_returns=4, timeout=30)
        assert (len(ready), rest) == (4, [])
        assert await loop.get(ready) == [2, 1, 2, 1]
        with pytest.raises(ValueError, match="4 of 3"):
            await loop.wait([quick] * 3, num_returns=4)

    run(loop, main())


def test_the_other_waits_refuse_it(loop):
    ref = same.remote(1)
    with pytest.raises(ValueError, match="unique"):
        run(loop, async_api.wait([ref, ref]))
    with pytest.raises(ValueError, match="unique"):
        ray.wait([ref, ref])


def test_every_get_takes_it(loop):
    async def main():
        ref, coroutine, nested = same.remote(1), gives(same.remote(2)), gives(gives(ray.put(3)))
        given = [ref, coroutine, ref, coroutine, nested, nested]
        assert await loop.get(given) == [1, 2, 1, 2, 3, 3]
        assert await async_api.get(given) == [1, 2, 1, 2, 3, 3]
        assert await async_api.get([ref, ref]) == [1, 1]
        assert await asyncio.gather(ref, ref) == [1, 1]

    ref = same.remote(1)
    assert ray.get([ref, ref]) == [1, 1]
    assert ray.experimental.get((ref, ref)) == [1, 1]
    assert ray.experimental.get({"a": ref, "b": ref}) == {"a": 1, "b": 1}
    run(loop, main())
