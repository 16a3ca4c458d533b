"""The event loop and the async API in trouble: loops and sessions that end, cancellations, deaths, debug mode."""

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

import ray
from ray.exceptions import RayConnectionError, WorkerCrashedError
from ray.experimental import async_api
from ray.experimental.plasma_eventloop import PlasmaEpoll, PlasmaPoll, PlasmaSelectorEventLoop
from ray.testing import eventually, inside

SELECTORS = [PlasmaEpoll, PlasmaPoll]


@ray.remote(max_retries=0)
def nap(seconds, value=None):
    time.sleep(seconds)
    return seconds if value is None else value


@ray.remote
def pid_and_nap(path, seconds):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(seconds)


@pytest.mark.parametrize("selector", SELECTORS)
def test_the_loop_is_closed_before_completion(session, selector, quiet):
    ref = nap.remote(0.3)
    loop = PlasmaSelectorEventLoop(selector())

    async def main():
        loop.object_future(ref)
        loop.object_future(ray.put(1))
        await async_api.wait([ref], timeout=20)

    loop.run_until_complete(main())
    assert not loop.object_future(ref).done()
    loop.close()
    assert ray.get(ref) == 0.3
    gc.collect()
    assert inside.listeners() == 0


@pytest.mark.parametrize("selector", SELECTORS)
def test_the_session_ends_while_the_loop_waits(monkeypatch, selector, quiet):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.init(num_cpus=1, log_to_driver=False)
    loop = PlasmaSelectorEventLoop(selector())
    refs = [nap.remote(30) for _ in range(3)]

    async def main():
        ending = threading.Timer(0.2, ray.shutdown)
        ending.start()
        waits = async_api.wait(refs, num_returns=3), async_api.get(refs), async_api.get(refs[0]), loop.get(refs[1])
        results = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 10)
        assert results[0] == (refs, [])
        assert [isinstance(error, RayConnectionError) for error in results[1:]] == [True] * 3
        await asyncio.to_thread(ending.join)
        with pytest.raises(RayConnectionError):
            await loop.get(refs)
        with pytest.raises(RayConnectionError):
            await async_api.wait(refs)

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
        ray.shutdown()


@pytest.mark.parametrize("selector", SELECTORS)
def test_refs_of_an_ended_session(session, selector):
    ready, pending = ray.put(1), nap.remote(20)
    ray.shutdown()
    with ray.init(num_cpus=1, log_to_driver=False):
        loop = PlasmaSelectorEventLoop(selector())
        objects = selector()
        try:
            for ref in (ready, pending):
                with pytest.raises(RayConnectionError, match="session that has ended"):
                    loop.run_until_complete(loop.get(ref))
                with pytest.raises(RayConnectionError, match="session that has ended"):
                    asyncio.run(async_api.get([ref]))
                with pytest.raises(RayConnectionError, match="session that has ended"):
                    objects.register(ref)
        finally:
            loop.close()
            objects.close()


def test_a_loop_without_objects_outlives_the_session(session):
    loop = PlasmaSelectorEventLoop(PlasmaPoll())
    ray.shutdown()
    assert loop.run_until_complete(asyncio.sleep(0.01, "on")) == "on"
    loop.close()


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_worker_dies_under_the_wait(session, selector, tmp_path):
    path = tmp_path / "pid"
    ref = pid_and_nap.options(max_retries=0).remote(str(path), 30)
    loop = PlasmaSelectorEventLoop(selector())

    async def main():
        while not (path.exists() and path.read_text()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        waiting = asyncio.ensure_future(async_api.get([ref, nap.remote(20)]))
        await asyncio.sleep(0.05)
        os.kill(int(path.read_text()), signal.SIGKILL)
        with pytest.raises(WorkerCrashedError):
            await asyncio.wait_for(waiting, 15)

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_futures_of_a_foreign_loop(loop, quiet):
    async def main():
        other = asyncio.new_event_loop()
        future = other.create_future()
        try:
            for use in (
                lambda: async_api.get(future),
                lambda: async_api.get([ray.put(1), future]),
                lambda: async_api.wait([ray.put(1), future], num_returns=2),
            ):
                with pytest.raises(ValueError, match="tied to different event loops"):
                    await use()
            with pytest.raises(ValueError, match="tied to different event loops"):
                async_api.create_group().append(future)
        finally:
            other.close()

    async_api.run_until_complete(main())


def test_a_coroutine_started_on_a_foreign_loop(session, quiet):
    async def gives():
        await asyncio.sleep(0.05)
        return ray.put(1)

    async def first():
        coroutine = gives()
        assert await async_api.wait([coroutine], timeout=1) == ([], [coroutine])
        await async_api.get(coroutine)
        return coroutine

    coroutine = asyncio.run(first())
    with pytest.raises(ValueError, match="tied to different event loops"):
        asyncio.run(async_api.get(coroutine))


def test_asyncio_run_again_and_again(session, quiet):
    async def main(i):
        group = async_api.create_group()
        group.extend([nap.remote(0, i), async_api.get(nap.remote(0.01, i))])
        return [*await group, await async_api.as_future(nap.remote(0, i)), await async_api.get(nap.remote(0, i))]

    for i in range(5):
        assert asyncio.run(main(i)) == [i] * 4
    threads = [threading.Thread(target=asyncio.run, args=(main(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert inside.listeners() == 0


def test_cancelled_while_results_arrive(loop, quiet):
    """Late results meet futures that are done, and harm nobody."""
    chance = random.Random(7)

    async def one(i):
        refs = [nap.remote(0, i), nap.remote(0.001, i)]
        for waiting in (async_api.get(refs), async_api.wait(refs, 2), loop.get(refs[0])):
            try:
                await asyncio.wait_for(waiting, chance.random() / 500)
            except TimeoutError:
                pass
        return await async_api.get(refs)

    async def main():
        return [await one(i) for i in range(100)]

    assert async_api.run_until_complete(main()) == [[i, i] for i in range(100)]
    assert dict(loop.object_selector.get_map()) == {}


@ray.remote(max_retries=0)
def wait_for(path, value):
    eventually(path.exists, 50)
    return value


def test_one_object_awaited_a_thousand_times(loop, quiet, tmp_path):
    ref = wait_for.remote(tmp_path / "go", 2)

    async def main():
        waiting = [asyncio.ensure_future(async_api.get(ref)) for _ in range(1000)]
        await asyncio.sleep(0.05)
        assert len(loop.object_selector.get_map()) == 1
        for each in waiting[::2]:
            each.cancel()
        (tmp_path / "go").touch()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert results[1::2] == [2] * 500
        assert all(isinstance(each, asyncio.CancelledError) for each in results[::2])

    async_api.run_until_complete(main())


def test_only_what_is_awaited_is_told_of(loop):
    refs = [nap.remote(0.3) for _ in range(50)]

    async def main():
        waiting = asyncio.ensure_future(async_api.get(refs[0]))
        await asyncio.sleep(0)
        assert len(loop.object_selector.get_map()) == 1
        assert inside.listeners() == (1 if loop.object_selector.name == "epoll" else 0)
        await waiting

    async_api.run_until_complete(main())


def test_nothing_of_ours_blocks_the_loop(session):
    blockbuster = pytest.importorskip("blockbuster")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = blockbuster.BlockBuster()
    loop = async_api._init_eventloop("epoll")
    detector.activate()
    try:

        async def gives(x):
            return nap.remote(0.01, x)

        async def main():
            refs = [nap.remote(0.001, i) for i in range(20)]
            assert await async_api.get([*refs, gives(20)]) == [*range(21)]
            assert len((await async_api.wait([nap.remote(0.05), gives(1), nap.remote(1)], 2, 5000))[0]) == 2
            group = async_api.create_group()
            group.extend([nap.remote(0.01), async_api.get(gives(1))])
            assert await group == [0.01, 1]
            assert await async_api.as_future(nap.remote(0.01)) == 0.01
            from ray_async import TaskGroup, as_completed, map

            assert [each async for each in map(nap, [0.02, 0.01])] == [0.02, 0.01]
            assert len([each async for each in as_completed([nap.remote(0.01)])]) == 1
            async with TaskGroup() as group:
                group.create_task(nap.remote(0.01))
            with pytest.raises(blockbuster.BlockingError):
                time.sleep(0.01)  # noqa: ASYNC251 - the detector works

        loop.run_until_complete(main())
        asyncio.run(main())
    finally:
        detector.deactivate()


@pytest.mark.parametrize("name", ["epoll", "poll"])
def test_a_fork_has_a_loop_of_its_own(session, name):
    """A child that starts anew, and one that does nothing, leave the loop of their parent as it is."""
    loop = async_api._init_eventloop(name)
    waiting = loop.create_task(async_api.get(nap.remote(0.5)))
    loop.run_until_complete(asyncio.sleep(0.05))
    pids = []
    for starts in (False, True):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                assert async_api.eventloop is None
                if starts:
                    with ray.init(num_cpus=1, log_to_driver=False):
                        assert async_api.run_until_complete(async_api.get(nap.remote(0.01))) == 0.01
                        async_api.cleanup()
                gc.collect()
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    assert loop.run_until_complete(asyncio.wait_for(waiting, 10)) == 0.5
    assert loop.run_until_complete(asyncio.wait_for(asyncio.to_thread(lambda: "thread"), 10)) == "thread"


PROGRAM = """
import asyncio, time
import ray, ray_async
from ray.experimental import async_api

@ray.remote
def nap(seconds):
    time.sleep(seconds)
    return seconds

async def gives(ref):
    await asyncio.sleep(0.01)
    return ref

async def main():
    assert await async_api.get([nap.remote(0.05), gives(nap.remote(0)), 3]) == [0.05, 0, 3]
    late = gives(nap.remote(0.2))
    ready, rest = await async_api.wait([nap.remote(0), late], num_returns=2, timeout=100)
    group = async_api.create_group(return_exceptions=True)
    group.extend([gives(1), nap.remote(0.01), asyncio.sleep(5)])
    await group.wait(0.1)
    group.cancel()
    try:
        await asyncio.wait_for(async_api.get(nap.remote(0.3)), 0.05)
    except TimeoutError:
        pass
    cancelled = async_api.as_future(nap.remote(0.1))
    cancelled.cancel()
    async with ray_async.TaskGroup() as tasks:
        tasks.create_task(nap.remote(0.01))
    assert [each async for each in ray_async.map(nap, [0.01, 0.0])] == [0.01, 0.0]
    await asyncio.sleep(0.3)
    print(await async_api.as_future(nap.remote(0)), await async_api.get(late))

with ray.init(num_cpus=2, log_to_driver=False):
    for name in ("epoll", "poll"):
        async_api._init_eventloop(name)
        async_api.run_until_complete(main())
        async_api.shutdown()
        async_api.cleanup()
    asyncio.run(main())
    async_api._init_eventloop()  # closed at exit
"""


def test_debug_mode_has_nothing_to_say(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(script)],
        env={**os.environ, "PYTHONASYNCIODEBUG": "1"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    slow = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]  # a machine at work
    assert (done.returncode, done.stdout, slow) == (0, "0 0.2\n" * 3, [])
