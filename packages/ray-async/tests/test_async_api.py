"""``ray.experimental.async_api``: get, wait and the loop behind them."""

import asyncio
import datetime
import gc
import logging
import threading
import time
import weakref

import pytest
from tests.stopwatch import Stopwatch

import ray
from ray.exceptions import RayConnectionError, RayTaskError, UnknownPluginError
from ray.experimental import async_api


@ray.remote
def nap(seconds, value=None):
    time.sleep(seconds)
    return seconds if value is None else value


@ray.remote
def fail(seconds=0.0):
    time.sleep(seconds)
    raise KeyError("as asked")


async def gives(value, seconds=0.0):
    await asyncio.sleep(seconds)
    return value


async def raises(error):
    await asyncio.sleep(0)
    raise error


def asyncio_run(main):
    async_api.cleanup()
    return asyncio.run(main)


@pytest.fixture(params=["epoll", "poll", "asyncio.run"])
def run(request, session):
    """Runs a coroutine on the event loop over either selector, or on one that knows of no objects."""
    if request.param == "asyncio.run":
        run = asyncio_run
    else:
        async_api._init_eventloop(request.param)
        async_api.set_debug(True)
        run = async_api.run_until_complete
    return lambda main: run(asyncio.wait_for(main, 20))


# --- get --------------------------------------------------------------------------------------------------------------


def test_get_takes_refs_coroutines_futures_and_lists_of_them(run, quiet):
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_later(0.05, future.set_result, nap.remote(0.05))
        task = asyncio.ensure_future(gives(nap.remote(0.01, "task")))
        assert await async_api.get(nap.remote(0.05)) == 0.05
        assert await async_api.get(gives(nap.remote(0.01, "coroutine"), 0.05)) == "coroutine"
        assert await async_api.get(future) == 0.05
        mixed = [nap.remote(0.1), gives(ray.put(1)), task, future, ray.put(2), 3, None, gives("plain")]
        assert await async_api.get(mixed) == [0.1, 1, "task", 0.05, 2, 3, None, "plain"]

    run(main())


def test_get_follows_chains(run):
    async def main():
        async def outer():
            inner = asyncio.get_running_loop().create_future()
            inner.set_result(gives(nap.remote(0.01, "end")))
            return inner

        assert await async_api.get(outer()) == "end"
        assert await async_api.get([outer(), outer()]) == ["end", "end"]

    run(main())


@pytest.mark.parametrize("value", [3, None, "text", {"a": 1}, (1, 2), []])
def test_get_returns_plain_values_as_they_are(run, value):
    assert run(async_api.get(value)) == value


def test_get_of_a_list_with_repetitions(run):
    ref, coroutine = nap.remote(0.05), gives(ray.put("again"), 0.02)
    assert run(async_api.get([ref, coroutine, ref, coroutine])) == [0.05, "again", 0.05, "again"]


def test_get_gives_inner_refs_as_refs(run):
    inner = ray.put(1)
    assert run(async_api.get(ray.put([inner]))) == [inner]


def test_get_raises_what_failed(run, quiet):
    for failing in (fail.remote(), [nap.remote(0), fail.remote(0.05)], gives(fail.remote()), [gives(fail.remote())]):
        with pytest.raises(KeyError) as caught:
            run(async_api.get(failing))
        assert isinstance(caught.value, RayTaskError)
    for failing in (raises(ValueError("mine")), [ray.put(1), raises(ValueError("mine"))]):
        with pytest.raises(ValueError, match="mine") as caught:
            run(async_api.get(failing))
        assert not isinstance(caught.value, RayTaskError)


def test_get_raises_as_soon_as_something_fails(run, quiet):
    started = Stopwatch()
    slow = nap.remote(20)
    for failing in ([slow, fail.remote()], [slow, raises(KeyError("x"))], [gives(slow), gives(fail.remote())]):
        with pytest.raises(KeyError):
            run(async_api.get(failing))
    assert started.undisturbed_s() < 10
    ray.cancel(slow)


def test_get_of_many(run):
    assert run(async_api.get([nap.remote(0, i) for i in range(3000)])) == list(range(3000))


def test_a_cancelled_get_cancels_its_coroutine_and_no_task(run, quiet):
    async def main():
        ended = []

        async def work():
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                ended.append(1)
                raise

        ref = nap.remote(0.3)
        for waiting in (async_api.get(work()), async_api.get([work(), ref]), async_api.get([ref]), async_api.get(ref)):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waiting, 0.02)
        assert ended == [1, 1]
        assert await async_api.get(ref) == 0.3

    run(main())


# --- wait -------------------------------------------------------------------------------------------------------------


def test_wait_in_milliseconds(run):
    refs = [nap.remote(0.1), nap.remote(20), nap.remote(0.05)]
    started = Stopwatch()
    assert run(async_api.wait(refs, num_returns=3, timeout=1000)) == ([refs[0], refs[2]], [refs[1]])
    assert started.elapsed_s() > 0.9
    assert started.undisturbed_s() < 5
    assert run(async_api.wait(refs, timeout=0)) == ([refs[0]], refs[1:])
    assert run(async_api.wait(refs, 2)) == ([refs[0], refs[2]], [refs[1]])
    seconds = datetime.timedelta(seconds=0.05)
    assert run(async_api.wait([refs[1]], timeout=seconds)) == ([], [refs[1]])
    assert run(async_api.wait([])) == ([], [])
    ray.cancel(refs[1])


def test_wait_hints_at_the_unit(session, caplog, monkeypatch):
    from ray import units

    monkeypatch.setattr(units, "_hinted", False)
    with caplog.at_level(logging.WARNING, "ray"):
        asyncio.run(async_api.wait([ray.put(1)], timeout=2.5))
    assert "milliseconds" in caplog.text


def test_wait_takes_coroutines_and_futures(run, quiet):
    async def main():
        future = asyncio.get_running_loop().create_future()
        quick, slow = ray.put(1), nap.remote(20)
        never, inputs = gives(None, 20), [gives(quick, 0.02), gives(slow), future, slow]
        ready, rest = await async_api.wait([never, *inputs], num_returns=2, timeout=300)
        assert ready == [quick]
        assert rest == [never, slow, future, slow]
        ray.cancel(slow)

    run(main())


def test_what_is_pending_may_be_passed_in_again(run, quiet):
    async def main():
        tasks = [gives(nap.remote(0.01, i), 0.1 + i / 50) for i in range(5)]
        ready, rest = await async_api.wait(tasks, num_returns=5, timeout=20)
        assert (ready, rest) == ([], tasks)
        ready, rest = await async_api.wait(rest, num_returns=5)
        assert rest == []
        assert await async_api.get(ready) == list(range(5))
        assert await async_api.get(tasks) == list(range(5))
        assert await async_api.get(tasks[2]) == 2

    run(main())


class Stubborn(Exception):
    """Cannot be copied."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


@pytest.mark.parametrize("error", [ValueError("mine"), Stubborn("my", "own")])
def test_a_coroutine_that_has_failed_fails_again(run, quiet, error):
    async def main():
        coroutine = raises(error)
        with pytest.raises(type(error)):
            await async_api.get([ray.put(1), coroutine])
        for _ in range(2):
            with pytest.raises((type(error), RuntimeError), match=str(error)):
                await async_api.get(coroutine)
            with pytest.raises((type(error), RuntimeError), match=str(error)):
                await async_api.wait([coroutine])
        return weakref.ref(coroutine)

    coroutine = run(main())
    error.__traceback__ = None
    gc.collect()
    assert coroutine() is None, "what failed is kept for ever, and the objects that its callers held"


def test_failed_objects_are_ready_and_failed_coroutines_raise(run, quiet):
    failing = fail.remote()
    assert run(async_api.wait([failing, gives(failing)], num_returns=2))[0] == [failing, failing]
    with pytest.raises(ValueError, match="mine"):
        run(async_api.wait([nap.remote(5), raises(ValueError("mine"))], num_returns=2))
    with pytest.raises(TypeError, match="returned 3, which is no object ref"):
        run(async_api.wait([nap.remote(5), gives(3)], num_returns=2))

    async def cancelled():
        task = asyncio.ensure_future(gives(None, 20))
        task.cancel()
        await async_api.wait([task])

    with pytest.raises(asyncio.CancelledError):
        run(cancelled())


def test_wait_checks_its_arguments(run, quiet):
    ref = ray.put(1)
    for wrong, match in [
        (ref, "put it in a list"),
        ((ref,), "expected a list"),
        (None, "expected a list"),
        ([ref, 3], "element 1 is 3"),
        ([[ref]], "element 0"),
    ]:
        with pytest.raises(TypeError, match=match):
            run(async_api.wait(wrong))
    for arguments, match in [
        (([ref, ref],), "unique"),
        (([ref], 0), "Invalid number of objects to return 0"),
        (([ref], 2), "2 of 1"),
        (([ref], 1, -1), "nonnegative"),
    ]:
        with pytest.raises(ValueError, match=match):
            run(async_api.wait(*arguments))
    for count in ("1", 1.5, True):
        with pytest.raises(TypeError, match="whole number"):
            run(async_api.wait([ref], count))


def test_a_cancelled_wait_leaves_everything_going(run, quiet):
    async def main():
        ref, work = nap.remote(0.3), gives(ray.put(1), 0.3)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(async_api.wait([ref, work], num_returns=2), 0.02)
        ready, _ = await async_api.wait([ref, work], num_returns=2)
        assert await async_api.get(ready) == [0.3, 1]

    run(main())


def test_waiting_leaves_nothing_registered(loop):
    refs = [nap.remote(20) for _ in range(3)]

    async def main():
        await async_api.wait(refs, timeout=50)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(async_api.get(refs), 0.05)

    async_api.run_until_complete(main())
    assert dict(loop.object_selector.get_map()) == {}
    for ref in refs:
        ray.cancel(ref)


# --- groups -----------------------------------------------------------------------------------------------------------


def test_a_group_takes_refs_for_their_values(loop):
    async def main():
        group = async_api.create_group()
        assert group.get_loop() is loop
        group.extend([nap.remote(0.1), async_api.get(nap.remote(0.05)), gives("plain"), ray.put(1)])
        assert await group == [0.1, 0.05, "plain", 1]
        group = async_api.create_group(return_exceptions=True)
        group.extend([fail.remote(), ray.put(1)])
        error, one = await group
        assert isinstance(error, KeyError)
        assert one == 1

    async_api.run_until_complete(main())


def test_a_group_made_before_the_loop_runs(loop):
    group = async_api.create_group(False, True)
    assert group.get_loop() is loop
    group.extend([nap.remote(0.05), async_api.get(nap.remote(0))])
    assert async_api.run_until_complete(group) == [0.05, 0]
    assert async_api.run_until_complete(async_api.create_group()) == []


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_the_loop_is_made_when_it_is_needed(session):
    assert async_api.eventloop is None
    coroutine = async_api.get(ray.put(1))
    assert async_api.eventloop is None
    assert async_api.run_until_complete(coroutine) == 1
    loop = async_api.eventloop
    assert loop.object_selector.name == "epoll"
    async_api._init_eventloop("poll")
    assert async_api.eventloop is loop
    async_api.set_debug(True)
    assert loop.get_debug()
    async_api.set_debug(False)
    assert not loop.get_debug()
    async_api.cleanup()
    assert loop.is_closed()
    assert async_api.eventloop is None
    async_api.cleanup()
    async_api._init_eventloop("poll")
    assert async_api.eventloop.object_selector.name == "poll"
    async_api.cleanup()
    with pytest.raises(UnknownPluginError, match="Did you mean 'poll'"):
        async_api._init_eventloop("pol")


def test_the_sessions_selector_is_the_default():
    for name in ("poll", "epoll"):
        with ray.init(selector=name, local_mode=True):
            async_api.set_debug(False)
            assert async_api.eventloop.object_selector.name == name
            async_api.cleanup()


def test_a_new_session_gets_a_new_loop():
    loops = []
    for _ in range(3):
        with ray.init(local_mode=True):
            assert async_api.run_until_complete(async_api.get(ray.put(1))) == 1
            loops.append(async_api.eventloop)
    assert [loop.is_closed() for loop in loops] == [True, True, False]
    async_api.cleanup()


def test_nothing_works_without_a_session():
    async def uses(*coroutines):
        for coroutine in coroutines:
            with pytest.raises(RayConnectionError, match=r"not been started|was shut down"):
                await coroutine

    asyncio.run(uses(async_api.get([]), async_api.wait([])))
    for use in (
        lambda: async_api.run_until_complete(None),
        async_api.create_group,
        async_api.init,
        lambda: async_api.set_debug(True),
        async_api._init_eventloop,
    ):
        with pytest.raises(RayConnectionError, match=r"not been started|was shut down"):
            use()
    async_api.cleanup()
    async_api.shutdown()
    assert async_api.eventloop is None


def test_run_until_complete_on_a_running_loop(session, quiet):
    async def main():
        with pytest.raises(RuntimeError, match="use 'await' there"):
            async_api.run_until_complete(async_api.get(ray.put(1)))
        async_api.create_group()
        assert async_api.eventloop is None

    asyncio.run(main())


def test_cleanup_while_it_runs(loop, quiet):
    async def main():
        with pytest.raises(RuntimeError, match="running"):
            async_api.cleanup()
        return 1

    assert async_api.run_until_complete(main()) == 1


def test_cleanup_ends_what_is_left(loop, quiet):
    words = []

    async def lasting():
        try:
            await asyncio.sleep(60)
        finally:
            words.append("ended")

    async def generator():
        try:
            while True:
                yield 1
        finally:
            words.append("closed")

    async def main():
        kept.append(asyncio.ensure_future(lasting()))
        kept.append(generator())
        await anext(kept[1])
        kept.append(asyncio.ensure_future(async_api.get(nap.remote(1))))
        await asyncio.sleep(0.01)

    kept = []
    async_api.run_until_complete(main())
    async_api.cleanup()
    assert sorted(words) == ["closed", "ended"]
    assert [kept[0].cancelled(), kept[2].cancelled()] == [True, True]


def test_the_loop_runs_in_one_thread_at_a_time(session):
    started, errors = threading.Event(), []

    async def main():
        started.set()
        await asyncio.sleep(0.5)

    thread = threading.Thread(target=lambda: async_api.run_until_complete(main()))
    thread.start()
    started.wait(10)
    coroutine = gives(1)
    try:
        async_api.run_until_complete(coroutine)
    except RuntimeError as error:
        errors.append(str(error))
    coroutine.close()
    thread.join()
    assert errors == ["This event loop is already running"]
