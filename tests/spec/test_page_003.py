"""The page "Advanced AsyncIO on Ray": its snippet as printed, but for the ten seconds, which are one.

The crawler that it promises is ``examples/crawler.py``.
"""

import asyncio
import time

from tests.stopwatch import Stopwatch

import ray


def test_asyncio_with_the_apis_of_ray(mode, monkeypatch, capsys):
    original = ray.init
    monkeypatch.setattr(ray, "init", lambda: original(num_cpus=4, local_mode=mode == "local_mode"))

    import ray as printed  # "import ray"

    assert printed is ray
    ray.init()

    @ray.remote()
    def f():
        import time

        # This simulate the IO bounded task.
        time.sleep(1)
        return True  # fmt: skip

    # .remote call is already asynchronous.
    # The program returns right away.
    # Note that a is an object reference.
    # But it is also compatible to AsyncIO coroutine.
    started = time.monotonic()
    a = f.remote()
    returned = time.monotonic()

    # This needs to wait for 10 seconds.
    assert ray.get(a) is True
    assert time.monotonic() - started >= 1

    # Now, let's try using asyncio.
    async def async_task(ray_object_ref):
        print("task start")
        # Here, this coroutine will pause and switch context to other coroutines.
        await ray_object_ref
        print("task done")

    async def main():
        a = f.remote()
        b = f.remote()
        await asyncio.gather(async_task(a), async_task(b))

    awaiting = Stopwatch()
    asyncio.run(main())
    if mode == "processes":
        assert returned - started < 0.9
        assert awaiting.undisturbed_s() < 1.9  # 2 s one after the other
        assert capsys.readouterr().out.splitlines() == ["task start"] * 2 + ["task done"] * 2
    ray.shutdown()


def test_many_waits_at_once(ray_session, mode):
    """ "programs need to `ray.get` on many objects, but we don't want them to wait and waste CPUs" """

    @ray.remote(num_cpus=0)
    def f(n):
        time.sleep(0.2)
        return n

    async def main():
        used = time.process_time()
        refs = [f.remote(n) for n in range(20 if mode == "processes" else 3)]
        assert await asyncio.gather(*refs) == list(range(len(refs)))
        return time.process_time() - used

    asyncio.run(main())
