"""However many objects are awaited, what is due on the loop besides has its turns."""

import asyncio
import contextlib
import gc
import os
import time

import pytest

import ray
from ray.experimental import async_api

MANY = 10_000
#: A turn of the work under test takes a few milliseconds; all of it in one turn takes far more than this.
LONGEST_S = 0.03


@ray.remote
def opened(gate):
    while not os.path.exists(gate):
        time.sleep(0.01)


@ray.remote
def after(gate):
    return gate


@contextlib.contextmanager
def longest_turn():
    """Collects what the callbacks on event loops have cost: processor time, as the machine may be busy."""
    turns = []
    run = asyncio.events.Handle._run

    def timed(self):
        started = time.thread_time()
        run(self)
        turns.append(time.thread_time() - started)

    asyncio.events.Handle._run = timed
    gc.disable()  # the collector's pauses are the program's to avoid
    try:
        yield turns
    finally:
        asyncio.events.Handle._run = run
        gc.enable()


def waits(refs):
    return {
        "get": lambda: async_api.get(refs),
        "wait": lambda: async_api.wait(refs, num_returns=len(refs)),
        "get each": lambda: asyncio.wait([asyncio.ensure_future(async_api.get(ref)) for ref in refs]),
    }


@pytest.mark.timeout(120)
@pytest.mark.parametrize("way", ["wait", *(pytest.param(way, marks=pytest.mark.slow) for way in ("get", "get each"))])
def test_thousands_of_objects(loop, way, tmp_path):
    loop.set_debug(False)
    path = tmp_path / "gate"
    gate = opened.remote(str(path))
    refs = [after.remote(gate) for _ in range(MANY)]
    wait = waits(refs)[way]

    async def main():
        waiting = wait()  # the tasks of "get each" are made by the test, not by what it tests
        with longest_turn() as turns:
            waiting = asyncio.ensure_future(waiting)
            await asyncio.sleep(0)
            path.touch()
            await waiting
        return max(turns), len(turns)

    longest, count = loop.run_until_complete(main())
    assert count > 20  # it was watched; how many turns there are depends on the machine
    assert longest < LONGEST_S
    assert dict(loop.object_selector.get_map()) == {}
