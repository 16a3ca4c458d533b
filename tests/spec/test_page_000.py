"""The page "The Async Ray API": each snippet, as printed but for its errata, under both selectors.

Errata: imports that are missing, ``loop=`` of ``asyncio.sleep`` (gone from Python), a sleep of 1000 s, and three lines
that are printed behind a ``return``. What the page shows in comments is asserted after it.
"""

import asyncio
import functools
import time

import pytest
from tests import sessions
from tests.stopwatch import Stopwatch

import ray
from ray.experimental import async_api

kept_session = sessions.kept()
mode = sessions.one_after_the_other()


pytest.importorskip("ray_async")

# ruff: noqa: ASYNC109


@pytest.fixture(autouse=True, params=["epoll", "poll"])
def selector(request, ray_session):
    """The event loop of the async API, over each of the selectors."""
    async_api._init_eventloop(request.param)
    assert async_api.eventloop.object_selector.name == request.param
    yield request.param
    async_api.cleanup()
    assert async_api.eventloop is None


# --- "Getting values from object IDs" ---------------------------------------------------------------------------------


def test_a_single_object_id(mode):
    import time

    import ray.experimental.async_api as async_api

    @ray.remote
    def f():
        time.sleep(0.5)  # printed as 1000
        return {'key1': ['value']}  # fmt: skip

    started = time.monotonic()
    # Get one object ID. The async get will return immediately.
    coroutine_object = async_api.get(f.remote())
    returned = time.monotonic()
    # Wait the coroutine until it completes.
    assert async_api.run_until_complete(coroutine_object) == {"key1": ["value"]}
    if mode == "processes":
        assert returned - started < 0.4


def test_a_coroutine_that_contains_an_object_id():
    import ray
    import ray.experimental.async_api as async_api

    async def f():
        return ray.put({'key1': ['value']})  # fmt: skip

    # Get one object ID. The async get will return immediately.
    coroutine_object = async_api.get(f())
    # Wait the coroutine until it completes.
    assert async_api.run_until_complete(coroutine_object) == {"key1": ["value"]}


def test_a_future_that_contains_an_object_id():
    """ "A single coroutine or future that contains an ObjectID" """
    future = async_api.eventloop.create_future()
    async_api.eventloop.call_later(0.05, lambda: future.set_result(ray.put("x")))
    assert async_api.run_until_complete(async_api.get(future)) == "x"


def test_chains():
    import ray
    import ray.experimental.async_api as async_api

    # get from coroutine/future chains
    obj_id = {'key1': ['value']}  # fmt: skip
    for _ in range(7):
        obj_id = ray.put([obj_id])

    async def recurrent_get(obj_id):
        if isinstance(obj_id, str):
            return obj_id
        obj_id = await async_api.get(obj_id)
        if isinstance(obj_id, list):
            return await recurrent_get(obj_id[0])
        return obj_id

    results = async_api.run_until_complete(recurrent_get(obj_id))
    assert results == {"key1": ["value"]}


def test_a_list_of_all_of_these():
    """ "A list composed of objects we talked above." """

    @ray.remote
    def f(n):
        time.sleep(0.05)
        return n

    async def later(n):
        await asyncio.sleep(0.05)
        return f.remote(n)

    async def chain(n):
        return later(n)

    future = async_api.eventloop.create_future()
    async_api.eventloop.call_soon(lambda: future.set_result(f.remote(3)))
    wanted = [f.remote(0), ray.put(1), later(2), future, chain(4), f.remote(5)]
    assert async_api.run_until_complete(async_api.get(wanted)) == [0, 1, 2, 3, 4, 5]


# --- "Waiting for a subset of tasks to finish" ------------------------------------------------------------------------


def test_waiting(mode):
    import time

    import ray.experimental.async_api as async_api

    scale = 0.01 if mode == "local_mode" else 1  # there each task runs to its end where it is called

    @ray.remote
    def f(n):
        time.sleep(n * scale)
        return n

    # Start 3 tasks with different durations.
    results = [f.remote(i) for i in range(3)]
    # Block until 2 of them have finished.
    ready_ids, remaining_ids = async_api.run_until_complete(async_api.wait(results, num_returns=2))
    assert (ready_ids, remaining_ids) == (results[:2], results[2:])

    # Start 5 tasks with different durations.
    started = time.monotonic()
    results = [f.remote(i) for i in range(5)]
    # Block until 4 of them have finished or 2.5 seconds pass.
    ready_ids, remaining_ids = async_api.run_until_complete(async_api.wait(results, num_returns=4, timeout=2500))
    if mode == "local_mode":
        assert (ready_ids, remaining_ids) == (results[:4], results[4:])
        return
    assert time.monotonic() - started >= 2.5
    # The four processors had task 2 of the first three to finish as well.
    assert set(ready_ids) <= set(results[:4])
    assert ready_ids[:2] == results[:2]
    assert remaining_ids == [ref for ref in results if ref not in ready_ids]


def test_inputs_that_are_not_ready_are_returned():
    import asyncio
    import time

    import ray.experimental.async_api as async_api

    def delayed_gen_tasks(delay=5, time_scale=0.1):
        async def _gen(n):
            await asyncio.sleep(delay)

            @ray.remote
            def f(n):
                time.sleep(n * time_scale)
                return n

            return f.remote(n)

        return [_gen(i) for i in range(5)]  # fmt: skip

    tasks = delayed_gen_tasks(100, 5)
    fut = async_api.wait(tasks, timeout=5, num_returns=len(tasks))
    results, pendings = async_api.run_until_complete(fut)
    assert (results, pendings) == ([], tasks)


def test_inputs_that_were_returned_may_be_waited_for_again():
    async def later():
        await asyncio.sleep(0.2)
        return ray.put("x")

    tasks = [later()]
    assert async_api.run_until_complete(async_api.wait(tasks, timeout=5)) == ([], tasks)
    (ready,), pendings = async_api.run_until_complete(async_api.wait(tasks, timeout=20_000))
    assert ray.get(ready) == "x"
    assert pendings == []


# --- "Async group operations" -----------------------------------------------------------------------------------------


async def wait(*coroutines_or_futures,
               timeout: float,
               num_returns: int,
               loop=None,
               return_exceptions=False):  # fmt: skip
    """This method resembles `asyncio.wait`.

    Args:
        *coroutines_or_futures:  A list of coroutines or futures.
        timeout (float): The timeout in seconds.
        num_returns (int): The minimal number of ready object returns.
        loop (PlasmaSelectorEventLoop): An eventloop.
        return_exceptions: If true, return exceptions as results
            without raising them.

    Returns:
        Tuple[List, List]: Ready futures & unready ones.
    """

    fut = async_api.create_group(return_exceptions=return_exceptions)
    fut.set_halt_condition(
        functools.partial(
            fut.halt_on_some_finished,
            n=num_returns,
        ))  # fmt: skip
    fut.extend(coroutines_or_futures)
    results = await fut.wait(timeout)  # set timeout
    # Ignore `CancelledError` caused by pending tasks.
    fut.return_exceptions = True
    return results


def test_the_wait_of_the_page_with_futures():
    async def main():
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(3)]
        loop.call_later(0.05, futures[1].set_result, "b")
        assert await wait(*futures, timeout=20, num_returns=1) == ([futures[1]], [futures[0], futures[2]])
        assert await wait(*futures, timeout=0.05, num_returns=2) == ([futures[1]], [futures[0], futures[2]])
        for future in futures:
            future.cancel()

    async_api.run_until_complete(main())


def test_the_wait_of_the_page_with_coroutines():
    @ray.remote
    def f(n):
        return n

    async def one(n, seconds):
        await asyncio.sleep(seconds)
        return await async_api.get(f.remote(n))

    async def main():
        done, pending = await wait(one(0, 0), one(1, 30), one(2, 0), timeout=20, num_returns=2)
        assert [future.result() for future in done] == [0, 2]
        assert [future.cancel() for future in pending] == [True]

    async_api.run_until_complete(main())


def test_a_group_is_finished_when_its_condition_says_so():
    """ "Change the condition function to decide when `PlasmaFutureGroup` should be marked as finished." """

    @ray.remote
    def f(n):
        return n

    async def main():
        group = async_api.create_group()
        group.extend([f.remote(0), async_api.get(f.remote(1)), asyncio.sleep(30, "late")])
        group.set_halt_condition(lambda: group.nfinished == 2)
        assert await group == [0, 1, None]
        group.children[2].cancel()

    async_api.run_until_complete(main())


# --- "The async mechanism" --------------------------------------------------------------------------------------------


def test_the_event_loop_inherits_from_asyncios():
    from ray.experimental.plasma_eventloop import PlasmaSelectorEventLoop

    assert isinstance(async_api.eventloop, PlasmaSelectorEventLoop)
    assert isinstance(async_api.eventloop, asyncio.BaseEventLoop)


@pytest.mark.parametrize("name", ["PlasmaPoll", "PlasmaEpoll"])
def test_selectors_return_ready_ids_within_a_time(name, mode):
    """ "Selectors watch over a batch of ObjectIDs and return ready ones within a certain time interval." """
    from ray.experimental import plasma_eventloop

    @ray.remote
    def f(seconds):
        time.sleep(seconds)

    selector = getattr(plasma_eventloop, name)()
    try:
        soon, late = f.remote(0.3), f.remote(0.6)
        for ref in (soon, late):
            selector.register(ref)
        if mode == "processes":
            started = Stopwatch()
            assert selector.select(0.05) == []  # "currently we don't really make use of `timeout`"
            assert started.undisturbed_s() < 0.25
            assert [key.fileobj for key in selector.select(20)] == [soon]
            selector.unregister(soon)
            assert [key.fileobj for key in selector.select(20)] == [late]
        else:
            assert [key.fileobj for key in selector.select(20)] == [soon, late]
    finally:
        selector.close()


def test_the_loop_does_other_things_while_nothing_becomes_ready(mode):
    """What the page warns of: "Lack of timeout control could suspending the eventloop"."""

    @ray.remote
    def f():
        time.sleep(0.5)
        return "done"

    ticks = []

    async def tick():
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def main():
        ticking = asyncio.ensure_future(tick())
        assert await async_api.get(f.remote()) == "done"
        ticking.cancel()

    async_api.run_until_complete(main())
    if mode == "processes":
        assert len(ticks) > 10


# --- the functions' own pages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["get", "wait", "create_group"])
def test_functions_that_the_page_documents(name):
    """``autofunction``"""
    assert getattr(async_api, name).__doc__
