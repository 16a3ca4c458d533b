"""The event loop over objects: asyncio's loop, with objects in it."""

import asyncio
import signal
import socket
import sys
import threading
import time

import pytest
from tests.stopwatch import Stopwatch

import ray
from ray.abc.selector import KeyedSelector
from ray.exceptions import RayConnectionError
from ray.experimental.plasma_eventloop import PlasmaEpoll, PlasmaObjectFuture, PlasmaPoll, PlasmaSelectorEventLoop
from ray.testing import inside


@ray.remote
def nap(seconds):
    time.sleep(seconds)
    return seconds


@ray.remote
def fail():
    raise KeyError("as asked")


def run(loop, main):
    return loop.run_until_complete(asyncio.wait_for(main, 20))


def test_it_is_a_loop_of_asyncio(loop):
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert run(loop, asyncio.sleep(0.01, "slept")) == "slept"


def test_everything_at_once(loop):
    """Objects, sockets, threads, subprocesses, timers and plain coroutines on one loop."""

    async def serve(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def echo():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line

    async def subprocess():
        program = "import time; time.sleep(0.1); print('out')"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0]

    async def main():
        return await asyncio.gather(
            loop.get(nap.remote(0.2)),
            nap.remote(0.1),
            echo(),
            subprocess(),
            asyncio.to_thread(lambda: time.sleep(0.1) or "thread"),
            loop.run_in_executor(None, ray.get, nap.remote(0.1)),
            asyncio.sleep(0.05, "timer"),
            loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM),
        )

    results = run(loop, main())
    assert results[:7] == [0.2, 0.1, b"hello\n", b"out\n", "thread", 0.1, "timer"]


def test_another_thread_wakes_it(loop):
    async def main():
        woken = asyncio.Event()
        waiting = asyncio.ensure_future(loop.get(nap.remote(5)))
        threading.Timer(0.1, loop.call_soon_threadsafe, (woken.set,)).start()
        await woken.wait()
        waiting.cancel()

    started = Stopwatch()
    run(loop, main())
    assert started.undisturbed_s() < 3


def test_signals_are_handled_while_objects_are_awaited(loop):
    async def main():
        seen = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, seen.set)
        try:
            waiting = asyncio.ensure_future(loop.get(nap.remote(5)))
            loop.call_later(0.05, signal.raise_signal, signal.SIGUSR1)
            await seen.wait()
            waiting.cancel()
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    run(loop, main())


def test_timers_are_kept_while_objects_are_awaited(loop):
    async def main():
        waiting = [asyncio.ensure_future(loop.get(nap.remote(5))) for _ in range(3)]
        late = []
        for _ in range(20):
            started = loop.time()
            await asyncio.sleep(0.01)
            late.append(loop.time() - started - 0.01)
        for each in waiting:
            each.cancel()
        return late

    late = run(loop, main())
    assert min(late) > -0.005
    assert sorted(late)[len(late) // 2] < 0.1


def test_a_loop_that_is_busy_sees_objects_too(loop):
    async def main():
        getting = asyncio.ensure_future(loop.get(nap.remote(0.1)))
        while not getting.done():  # noqa: ASYNC110
            await asyncio.sleep(0)
        return await getting

    assert run(loop, main()) == 0.1


@pytest.mark.parametrize("awaited", [0, 100])
def test_an_idle_loop_sleeps(loop, awaited):
    """With ``poll`` and objects awaited it looks after sockets from time to time; that is bounded."""
    loop.set_debug(False)
    refs = [nap.remote(30) for _ in range(awaited)]

    async def main():
        waiting = [asyncio.ensure_future(loop.get(ref)) for ref in refs]
        await asyncio.sleep(0.1)
        before = time.thread_time()
        await asyncio.sleep(1)
        used = time.thread_time() - before
        for each in waiting:
            each.cancel()
        return used

    used = run(loop, main())
    bound = 0.3 if awaited and loop.object_selector.name == "poll" else 0.02
    assert used < bound
    for ref in refs:
        ray.cancel(ref)


def test_many_objects_do_not_hold_up_the_loop(loop):
    refs = [nap.remote(0) for _ in range(2000)]

    async def main():
        return await loop.get(refs)

    assert run(loop, main()) == [0] * 2000
    assert dict(loop.object_selector.get_map()) == {}


# --- get and wait -----------------------------------------------------------------------------------------------------


def test_get_and_wait_in_seconds(loop):
    async def main():
        await loop.get([nap.remote(0.1) for _ in range(3)])  # the workers have started
        refs = [nap.remote(seconds) for seconds in (0.1, 5, 0)]
        started = loop.time()
        ready, rest = await loop.wait(refs, num_returns=3, timeout=1.5)
        assert 1.4 < loop.time() - started < 4
        assert (ready, rest) == ([refs[0], refs[2]], [refs[1]])
        assert await loop.wait(refs) == ([refs[0]], refs[1:])
        assert await loop.wait(refs, return_exact_num=False) == ([refs[0], refs[2]], [refs[1]])
        assert await loop.get(refs[0]) == 0.1
        with pytest.raises(KeyError):
            await loop.get([refs[0], fail.remote()])

    run(loop, main())
    assert dict(loop.object_selector.get_map()) == {}


# --- futures ----------------------------------------------------------------------------------------------------------


def test_one_future_for_an_object(loop):
    ref = nap.remote(0.1)

    async def main():
        first, second = loop.object_future(ref), loop.object_future(ref)
        assert first is second
        assert isinstance(first, PlasmaObjectFuture)
        assert (first.ref_count, first.object_id, first.is_nil) == (2, ref, False)
        assert list(loop.object_selector.get_map()) == [ref.binary()]
        assert f"{{object_id={ref.hex()}, ref_count=2}}" in repr(first)
        first.dec_refcount()
        assert not first.cancelled()
        assert await asyncio.shield(first) == ref
        assert dict(loop.object_selector.get_map()) == {}
        assert loop.object_future(ref) is not first
        assert loop.object_future(ref).result() == ref

    run(loop, main())


def test_with_the_last_count_it_is_cancelled_and_unregistered(loop):
    ref = nap.remote(30)

    async def main():
        future = loop.object_future(ref)
        loop.object_future(ref).dec_refcount()
        assert not future.done()
        future.dec_refcount()
        assert future.cancelled()
        assert not future.cancel()
        assert dict(loop.object_selector.get_map()) == {}
        again = loop.object_future(ref)
        assert again is not future
        assert again.cancel()
        future.complete()
        assert future.cancelled()

    run(loop, main())
    ray.cancel(ref)


def test_a_failed_object_completes_its_future(loop):
    ref = fail.remote()

    async def main():
        future = loop.object_future(ref)
        assert await asyncio.shield(future) == ref

    run(loop, main())
    with pytest.raises(KeyError):
        ray.get(ref)


def test_a_future_of_no_object_yet(loop):
    future = PlasmaObjectFuture.create_nil(loop)
    assert future.is_nil
    assert future.ref_count == 0
    future.inc_refcount()
    future.object_id = ray.put(1)
    future.complete()
    assert not future.is_nil
    assert future.result() == future.object_id


# --- making and closing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("selector", [PlasmaPoll, PlasmaEpoll])
def test_made_by_hand(session, selector):
    loop = PlasmaSelectorEventLoop(selector(None), None)
    assert loop.run_until_complete(loop.get(nap.remote(0.05))) == 0.05
    objects = loop.object_selector
    loop.close()
    loop.close()
    assert loop.is_closed()
    with pytest.raises(RuntimeError, match="closed"):
        objects.select(0)
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon(print)


def test_a_running_loop_is_not_closed(loop):
    async def main():
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()

    run(loop, main())


@pytest.mark.parametrize("wrong", ["poll", 3, object()])
def test_only_object_selectors(session, wrong):
    with pytest.raises(TypeError, match="selector must be a selector over objects"):
        PlasmaSelectorEventLoop(wrong)


def test_not_without_a_session():
    with pytest.raises(RayConnectionError):
        PlasmaSelectorEventLoop()
    with pytest.raises(RayConnectionError):
        PlasmaPoll()


def test_a_selector_of_the_least_kind(session):
    """What a plugin must offer is enough for a loop with sockets."""

    class Least(KeyedSelector):
        name = "least"

        def __init__(self):
            super().__init__()
            self.refs = {}

        def select(self, timeout_s=None, max_keys=None):
            ready, _ = ray.wait(list(self.refs.values()), 1, None if timeout_s is None else int(timeout_s * 1000))
            return [self._keys[ref.binary()] for ref in ready]

        def _begin(self, id, ref):
            self.refs[id] = ref

        def _end(self, id):
            del self.refs[id]

    loop = PlasmaSelectorEventLoop(Least())
    try:
        assert run(loop, loop.get([nap.remote(0.1), nap.remote(0)])) == [0.1, 0]
    finally:
        loop.close()


def test_two_loops_in_two_threads_wait_for_the_same_object(session):
    ref = nap.remote(0.3)
    got = []

    def work(selector):
        loop = PlasmaSelectorEventLoop(selector)
        try:
            got.append(loop.run_until_complete(loop.get(ref)))
        finally:
            loop.close()

    threads = [threading.Thread(target=work, args=(make(),)) for make in (PlasmaEpoll, PlasmaPoll)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert got == [0.3, 0.3]


def test_in_a_worker(session):
    @ray.remote
    def work():
        from ray.experimental import async_api

        try:
            return async_api.run_until_complete(async_api.get([nap.remote(0.05), nap.remote(0)]))
        finally:
            async_api.cleanup()

    assert ray.get(work.remote(), timeout=20) == [0.05, 0]


@pytest.mark.parametrize("name", ["poll", "epoll"])
def test_a_worker_that_awaits_many_lets_them_have_its_processor(one_processor, name):
    @ray.remote
    def work(count):
        from ray.experimental import async_api

        async_api._init_eventloop(name)
        try:
            return len(async_api.run_until_complete(async_api.get([nap.remote(0) for _ in range(count)])))
        finally:
            async_api.cleanup()

    assert ray.get(work.remote(3000), timeout=30) == 3000


@pytest.fixture
def one_processor(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with ray.init(num_cpus=1, log_to_driver=False) as context:
        yield context


def test_many_that_are_not_awaited_any_more_are_let_go(loop):
    """Whatever is listened to in the name of all is let go with them."""
    loop.set_debug(False)
    refs = [nap.remote(30) for _ in range(3000)]
    listeners = 1 if loop.object_selector.name == "poll" else 3000

    async def main():
        waiting = asyncio.ensure_future(loop.get(refs))
        while inside.listeners() < listeners or len(loop.object_selector.get_map()) < 3000:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert inside.listeners() == listeners
        for _ in range(3):  # the one that is listened to ends before the others
            ray.cancel(refs.pop(0))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(loop, main())
    assert inside.listeners() == 0
    ray.cancel(refs)


def test_in_local_mode():
    from ray.experimental import async_api

    with ray.init(local_mode=True):
        for name in ("poll", "epoll"):
            async_api._init_eventloop(name)
            assert async_api.run_until_complete(async_api.get([nap.remote(0), 2])) == [0, 2]
            async_api.cleanup()
