"""The event loop of the async API, whatever the session is made of: small values, and those that a store holds."""

import asyncio
import os

import pytest

import ray
from ray.experimental import async_api

pytest.importorskip("ray_async")

LARGE = 1_000_000


@ray.remote
def made(nbytes):
    return b"x" * nbytes


@ray.remote
def fail():
    raise KeyError("k")


@pytest.fixture(autouse=True)
def loop(session):
    """Over the selector of the session."""
    yield async_api._init_eventloop()
    async_api.cleanup()


def test_objects_of_every_kind_become_ready(session, loop):
    if session != ("local_mode",):
        assert loop.object_selector.name == session[-1]
    sizes = [0, 1, 100 * 1024, LARGE] * 5

    async def main():
        refs = [made.remote(nbytes) for nbytes in sizes]
        assert [len(value) for value in await async_api.get(refs)] == sizes
        put = [ray.put(os.urandom(nbytes)) for nbytes in sizes]
        ready, rest = await async_api.wait([*put, fail.remote()], num_returns=len(sizes) + 1)
        assert ready[:-1] == put
        assert rest == []
        with pytest.raises(KeyError):
            await async_api.get(ready)

    loop.run_until_complete(main())
    assert not loop.object_selector.get_map()


def test_a_drain_takes_each_once(session, loop):
    async def main():
        pending = [made.remote(nbytes) for nbytes in [1, LARGE] * 20]
        wanted, seen = set(pending), []
        while pending:
            ready, pending = await async_api.wait(pending, num_returns=1, timeout=30_000)
            assert len(ready) == 1
            seen += ready
        assert len(seen) == 40
        assert set(seen) == wanted

    loop.run_until_complete(main())


@pytest.mark.usefixtures("processes")
def test_the_loop_does_other_things_meanwhile(loop):
    @ray.remote
    def nap():
        import time

        time.sleep(0.3)

    ticks = []

    async def tick():
        while True:
            ticks.append(None)
            await asyncio.sleep(0.01)

    async def main():
        ticking = asyncio.ensure_future(tick())
        await async_api.get([nap.remote(), nap.remote()])
        ticking.cancel()

    loop.run_until_complete(main())
    assert len(ticks) > 5
