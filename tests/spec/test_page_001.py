"""The page "Async API (Experimental)": each snippet, as printed but for its errata.

Errata: the loop, which Python no longer makes by itself, is made; ``ray.exprimental`` is spelled; ``gather`` takes its
futures one by one.
"""

# ruff: noqa: RET504 - as printed

import asyncio
import time

import pytest
from tests.stopwatch import Stopwatch

import ray

pytest.importorskip("ray_async")


@pytest.fixture(autouse=True)
def ended(monkeypatch, mode):
    """What the snippets start is ended after them; the test chooses the mode."""
    original = ray.init
    monkeypatch.setattr(ray, "init", lambda: original(num_cpus=4, local_mode=mode == "local_mode"))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)
    from ray.experimental import async_api

    async_api.shutdown()
    ray.shutdown()


def test_convert_an_object_id_into_a_future():
    import asyncio
    import time

    import ray
    from ray.experimental import async_api

    @ray.remote
    def f():
        time.sleep(1)
        return {'key1': ['value']}  # fmt: skip

    ray.init()
    future = async_api.as_future(f.remote())
    assert isinstance(future, asyncio.Future)
    assert asyncio.get_event_loop().run_until_complete(future) == {"key1": ["value"]}


def test_the_four_examples(mode):
    """Basic Python, distributed with ray, async Python, async ray."""
    took = {}

    def basic():
        def f():
            time.sleep(1)
            return 1

        results = [f() for i in range(4)]
        return results

    def distributed():
        @ray.remote
        def f():
            time.sleep(1)
            return 1

        ray.init()
        results = ray.get([f.remote() for i in range(4)])
        return results

    def async_python():
        async def f():
            await asyncio.sleep(1)
            return 1

        loop = asyncio.get_event_loop()
        tasks = [f() for i in range(4)]
        results = loop.run_until_complete(asyncio.gather(*tasks))
        return results

    def async_ray():
        from ray.experimental import async_api

        @ray.remote
        def f():
            time.sleep(1)
            return 1

        loop = asyncio.get_event_loop()
        tasks = [async_api.as_future(f.remote()) for i in range(4)]
        results = loop.run_until_complete(asyncio.gather(*tasks))
        return results

    for example in (basic, distributed, async_python, async_ray):
        started = Stopwatch()
        assert example() == [1, 1, 1, 1]
        took[example] = started.elapsed_s(), started.undisturbed_s()
    assert took[basic][0] >= 4
    assert took[async_python][1] < 3
    if mode == "processes":
        assert took[async_ray][1] < 3.5


def test_shutdown_cancels_all_pending_tasks(mode):
    """ "Shutdown the API will cancel all related pending tasks." """
    from ray.experimental import async_api

    @ray.remote
    def f(seconds):
        time.sleep(seconds)
        return seconds

    ray.init()
    async_api.init()
    loop = asyncio.get_event_loop()
    done = async_api.as_future(ray.put("done"))
    pending = [async_api.as_future(f.remote(30)) for _ in range(2)] if mode == "processes" else []
    async_api.shutdown()
    assert [future.cancelled() for future in pending] == [True] * len(pending)
    assert loop.run_until_complete(done) == "done"
    async_api.shutdown()
    assert loop.run_until_complete(async_api.as_future(f.remote(0))) == 0
