"""The released form of the async API: ``as_future``, ``init`` and ``shutdown``."""

import asyncio
import threading
import time

import pytest

import ray
from ray.exceptions import RayConnectionError
from ray.experimental import async_api
from ray.experimental.plasma_eventloop import PlasmaObjectFuture


@ray.remote
def nap(seconds):
    time.sleep(seconds)
    return seconds


@ray.remote
def fail():
    raise KeyError("as asked")


@pytest.fixture
def own_loop(session):
    """A loop that the program has made and set, and that does not run."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


def test_on_the_loop_that_is_set(own_loop, quiet):
    futures = [async_api.as_future(nap.remote(seconds)) for seconds in (0.1, 0, 0.05)]
    assert all(isinstance(future, PlasmaObjectFuture) for future in futures)
    assert {future.get_loop() for future in futures} == {own_loop}
    assert own_loop.run_until_complete(asyncio.gather(*futures)) == [0.1, 0, 0.05]


def test_on_the_running_loop(own_loop, quiet):
    async def main():
        assert await async_api.as_future(nap.remote(0.05)) == 0.05
        return await asyncio.gather(*(async_api.as_future(nap.remote(0)) for _ in range(500)))

    for _ in range(2):
        assert asyncio.run(main()) == [0] * 500
    own_loop2 = asyncio.new_event_loop()
    asyncio.set_event_loop(own_loop2)
    assert own_loop2.run_until_complete(main()) == [0] * 500
    own_loop2.close()


def test_on_no_loop_it_brings_one(session):
    asyncio.set_event_loop(None)
    future = async_api.as_future(nap.remote(0.1))
    loop = asyncio.get_event_loop()
    assert loop is async_api.eventloop
    assert loop.run_until_complete(future) == 0.1


def test_in_a_thread_without_a_loop(session):
    got = []

    def work():
        future = async_api.as_future(nap.remote(0.1))
        got.append(asyncio.get_event_loop().run_until_complete(future))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert got == [0.1]


def test_what_is_ready_is_done_at_once(own_loop):
    ref = nap.remote(0)
    ray.get(ref)
    for each in (ref, ray.put(0)):
        future = async_api.as_future(each)
        assert future.done()
        assert future.result() == 0
        assert f"{{object_id={each.hex()}" in repr(future)
    failed = fail.remote()
    ray.wait([failed])
    assert isinstance(async_api.as_future(failed).exception(), KeyError)


def test_failures_are_raised(own_loop, quiet):
    with pytest.raises(KeyError):
        own_loop.run_until_complete(async_api.as_future(fail.remote()))


def test_futures_of_one_object_are_independent(own_loop, quiet):
    ref = nap.remote(0.2)
    first, second, third = (async_api.as_future(ref) for _ in range(3))
    assert len({id(first), id(second), id(third)}) == 3
    first.cancel()

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second, 0.01)
        return await third

    assert own_loop.run_until_complete(main()) == 0.2
    assert first.cancelled()
    assert second.cancelled()
    assert own_loop.run_until_complete(async_api.as_future(ref)) == 0.2


@pytest.mark.parametrize("wrong", [3, None, [], "id", b"x" * 20])
def test_only_refs(own_loop, wrong):
    with pytest.raises(TypeError, match="Input should be an ObjectID"):
        async_api.as_future(wrong)
    with pytest.raises(TypeError, match="Input should be an ObjectID"):
        async_api.as_future([ray.put(1)])


def test_shutdown_cancels_and_as_future_starts_again(own_loop, quiet):
    async_api.init()
    async_api.init()
    assert async_api.handler is not None
    ref = nap.remote(0.3)
    pending = [async_api.as_future(ref) for _ in range(3)]
    own_loop.run_until_complete(asyncio.sleep(0.01))
    pending.append(async_api.as_future(ref))
    async_api.shutdown()
    assert [future.cancelled() for future in pending] == [True] * 4
    assert async_api.handler is None
    async_api.shutdown()
    assert own_loop.run_until_complete(async_api.as_future(ref)) == 0.3
    async_api.shutdown()
    async_api.init()
    assert own_loop.run_until_complete(async_api.as_future(ref)) == 0.3


def test_shutdown_while_another_thread_waits(session, quiet):
    outcomes, waiting = [], threading.Event()

    def work():
        async def main():
            future = async_api.as_future(nap.remote(20))
            asyncio.get_running_loop().call_soon(waiting.set)
            try:
                await future
            except asyncio.CancelledError:
                outcomes.append("cancelled")

        asyncio.run(main())

    thread = threading.Thread(target=work)
    thread.start()
    assert waiting.wait(10)
    async_api.shutdown()
    thread.join(10)
    assert outcomes == ["cancelled"]


def test_the_loop_is_closed_before_the_end(session, quiet):
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    ref = nap.remote(0.3)
    future = async_api.as_future(ref)
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    asyncio.set_event_loop(None)
    assert ray.get(ref) == 0.3
    async_api.shutdown()
    assert not future.done()
    assert asyncio.run(async_api.get(ref)) == 0.3


def test_sessions_end(monkeypatch, quiet):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        with ray.init(num_cpus=1, log_to_driver=False):
            ref = nap.remote(20)
            future = async_api.as_future(ref)
            loop.run_until_complete(asyncio.sleep(0.01))
        with pytest.raises(RayConnectionError):
            loop.run_until_complete(asyncio.wait_for(future, 10))
        with pytest.raises(RayConnectionError):
            async_api.as_future(ref)
        with ray.init(num_cpus=1, log_to_driver=False):
            with pytest.raises(RayConnectionError):
                async_api.as_future(ref)
            assert loop.run_until_complete(async_api.as_future(nap.remote(0))) == 0
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        async_api.shutdown()
