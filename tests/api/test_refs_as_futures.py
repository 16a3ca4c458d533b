"""Refs on event loops and as futures: everything asyncio and ``concurrent.futures`` do with what they wait for."""

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import os
import re
import subprocess
import sys
import threading
import time
import warnings
import weakref

import pytest
from tests.quick import first_of

import ray
from ray.exceptions import RayActorError, RayConnectionError, RayTaskError, TaskCancelledError
from ray.runtime import completion
from ray.testing import inside

LIMIT_S = 20

try:
    import uvloop
except ImportError:
    uvloop = None
else:
    uvloop.new_event_loop().close()  # the first one opens a pipe that stays for the life of the process


@ray.remote
def echo(x, seconds=0.0):
    time.sleep(seconds)
    return x


@ray.remote
def fail(error, seconds=0.0):
    time.sleep(seconds)
    raise error


def uvloop_run(main):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


LOOPS = {"asyncio": asyncio.run, "uvloop": uvloop_run, "debug": functools.partial(asyncio.run, debug=True)}
#: For the tests that hold for uvloop in the quick run what others ask in the slow one.
on_both_loops = pytest.mark.parametrize("run", first_of(LOOPS.values(), 2), ids=LOOPS, indirect=True)


@pytest.fixture(params=first_of(LOOPS.values()), ids=LOOPS)
def run(request):
    """Runs a coroutine to its end on a new event loop."""
    if request.param is uvloop_run and uvloop is None:
        pytest.skip("uvloop is not installed")
    return lambda main: request.param(asyncio.wait_for(main, LIMIT_S))


@pytest.fixture
def quiet(caplog, capfd):
    """Nothing may be logged by asyncio, nor printed by the interpreter, while the test runs."""
    yield
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
    # A failure of a task that nobody has asked for in time is shown by the session, and rightly so.
    printed = capfd.readouterr().err
    noise = ["Exception ignored", "Exception in callback", "never retrieved", "never awaited", "was destroyed"]
    assert [mark for mark in noise if mark in printed] == []


# --- await ----------------------------------------------------------------------------------------


@on_both_loops
def test_await(ray_session, run):
    async def main():
        ref = echo.remote(1, 0.05)
        assert await ref == 1
        assert await ref == 1
        assert await ray.put([2]) == [2]
        return await echo.remote(3)

    assert run(main()) == 3


def test_await_raises_what_get_raises(ray_session, run, quiet):
    async def main():
        ref = fail.remote(KeyError("k"), 0.05)
        for _ in range(2):
            with pytest.raises(KeyError) as caught:
                await ref
            assert isinstance(caught.value, RayTaskError)
            assert isinstance(caught.value.__cause__, KeyError)
        with pytest.raises(KeyError):
            ray.get(ref)

    run(main())


def test_a_cancel_that_a_task_raises_is_no_cancel_of_whoever_awaits(ray_session, run):
    async def main():
        with pytest.raises(RayTaskError, match="CancelledError"):
            await fail.remote(asyncio.CancelledError())
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_loop_after_loop(ray_session, run):
    ref = echo.remote("x", 0.05)

    async def main():
        return await ref

    assert [run(main()) for _ in range(3)] == ["x"] * 3


def test_three_loops_in_three_threads(ray_session, run):
    ref = echo.remote("shared", 0.2)

    async def main():
        refs = [ref, echo.remote(threading.get_ident(), 0.1)] * 10
        return await asyncio.gather(*refs)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(run, main()) for _ in range(3)]:
            values = future.result(LIMIT_S)
            assert values[::2] == ["shared"] * 10
            assert len(set(values[1::2])) == 1


def test_await_without_a_loop(start):
    start(num_cpus=1)
    pending, ready = echo.remote(1, 0.3), ray.put(2)
    with pytest.raises(RuntimeError, match=r"needs a running event loop.*elsewhere use ray.get\(ref\)"):
        pending.__await__().send(None)
    with pytest.raises(StopIteration) as stopped:
        ready.__await__().send(None)
    assert stopped.value.value == 2
    for method in (pending.as_future, lambda: pending.add_done_callback(print)):
        with pytest.raises(RuntimeError, match=r"[nN]o running event loop"):
            method()
    assert ray.get(pending) == 1


async def one_fails():
    async with asyncio.TaskGroup() as group:
        group.create_task(fail.remote(ValueError("v")).as_coroutine())
        group.create_task(asyncio.sleep(30))


async def until(condition):
    """Turn the loop until it holds."""
    while not condition():  # noqa: ASYNC110 - another thread makes it true
        await asyncio.sleep(0)


@on_both_loops
def test_the_library_of_asyncio(ray_session, run, mode, quiet):
    async def main():
        refs = [echo.remote(i, 0.01) for i in range(5)]
        assert await asyncio.gather(*refs, *refs) == [*range(5)] * 2
        assert sorted([await done for done in asyncio.as_completed(refs)]) == [*range(5)]
        assert await asyncio.wait_for(echo.remote(1, 0.05), 10) == 1
        assert await asyncio.shield(echo.remote(2)) == 2
        async with asyncio.timeout(10):
            assert await echo.remote(3) == 3
        assert await asyncio.ensure_future(echo.remote(4)) == 4
        results = await asyncio.gather(echo.remote(5), fail.remote(OSError("o")), return_exceptions=True)
        assert results[0] == 5
        assert isinstance(results[1], OSError)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(echo.remote(i).as_coroutine()) for i in range(3)]
        assert [task.result() for task in tasks] == [0, 1, 2]
        with pytest.raises(ExceptionGroup) as caught:
            await one_fails()
        assert [type(error.__cause__) for error in caught.value.exceptions] == [ValueError]
        if mode == "local_mode":
            return
        slow = echo.remote(6, 0.3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow, 0.05)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.shield(slow)
        assert await slow == 6

    run(main())


def test_run_until_complete_takes_a_ref(ray_session):
    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(echo.remote(1, 0.05)) == 1
    finally:
        loop.close()


# --- asyncio.wait ---------------------------------------------------------------------------------


def test_wait_returns_the_refs(ray_session, run, mode):
    async def main():
        refs = [echo.remote(i) for i in range(3)]
        done, pending = await asyncio.wait(refs)
        assert done == set(refs)
        assert {id(ref) for ref in done} == {id(ref) for ref in refs}
        assert pending == set()
        task = asyncio.create_task(asyncio.sleep(0))
        done, _ = await asyncio.wait([refs[0], task])
        assert done == {refs[0], task}
        assert refs[0].done()
        assert refs[0].result() == 0
        if mode == "local_mode":
            return
        slow = echo.remote(1, 0.5)
        assert await asyncio.wait([slow, refs[0]], return_when=asyncio.FIRST_COMPLETED) == ({refs[0]}, {slow})
        assert await asyncio.wait([slow], timeout=0.01) == (set(), {slow})
        bad = fail.remote(ValueError())
        assert await asyncio.wait([slow, bad], return_when=asyncio.FIRST_EXCEPTION) == ({bad}, {slow})
        assert not bad.cancelled()
        assert isinstance(bad.exception(), ValueError)
        assert await asyncio.wait([slow, bad]) == ({slow, bad}, set())

    run(main())


def test_cancelled_tasks(start, run):
    start(num_cpus=1)

    async def main():
        blocker, queued = echo.remote(0, 0.3), echo.remote(1)
        assert not queued.done()
        assert not queued.cancelled()
        ray.cancel(queued)
        done, _ = await asyncio.wait([queued])
        assert done == {queued}
        assert queued.cancelled()
        assert isinstance(queued.exception(), TaskCancelledError)
        with pytest.raises(TaskCancelledError):
            queued.result()
        with pytest.raises(TaskCancelledError):
            await queued
        await blocker

    run(main())


def test_result_never_waits(start, run):
    start(num_cpus=1)

    async def main():
        ref = echo.remote(1, 0.1)
        assert not ref.done()
        with pytest.raises(asyncio.InvalidStateError, match="not ready; use 'await ref'"):
            ref.result()
        with pytest.raises(asyncio.InvalidStateError):
            ref.exception()
        await asyncio.wait([ref])
        assert (ref.done(), ref.cancelled(), ref.result(), ref.exception()) == (True, False, 1, None)

    run(main())


# --- callbacks ------------------------------------------------------------------------------------


@on_both_loops
def test_callbacks(ray_session, run):
    place = contextvars.ContextVar("place", default="nowhere")
    calls = []

    def note(ref):
        calls.append((ref, place.get(), threading.get_ident()))

    async def main():
        ref = echo.remote(1, 0.05)
        place.set("here")
        ref.add_done_callback(note)
        place.set("there")
        ref.add_done_callback(note, context=contextvars.Context())
        assert calls == []  # never called from here, not even if it is ready
        await ref
        await until(lambda: len(calls) == 2)
        assert calls == [(ref, "here", threading.get_ident()), (ref, "nowhere", threading.get_ident())]
        ref.add_done_callback(note)
        await asyncio.sleep(0.01)
        assert len(calls) == 3

    run(main())


def test_callbacks_are_removed(start, run):
    start(num_cpus=1)
    calls = []

    async def main():
        ref = echo.remote(1, 0.1)
        for _ in range(3):
            ref.add_done_callback(calls.append)
        ref.add_done_callback(print)
        assert ref.remove_done_callback(calls.append) == 3
        assert ref.remove_done_callback(calls.append) == 0
        assert ref.remove_done_callback(print) == 1
        await ref
        await asyncio.sleep(0.05)
        assert calls == []
        assert ref.remove_done_callback(print) == 0
        assert inside.listeners() == 0

    run(main())


class Held:
    """Something that the program holds beside an error."""


def asks_a_ref(ref):
    held = Held()
    error = ref.exception()
    assert isinstance(error, KeyError)
    return weakref.ref(held)


def asks_a_future(ref):
    held = Held()
    error = ref.future().exception(LIMIT_S)
    assert isinstance(error, KeyError)
    return weakref.ref(held)


def gets(ref):
    held = Held()
    with pytest.raises(KeyError):
        ray.get(ref)
    return weakref.ref(held)


@pytest.mark.parametrize("ask", [asks_a_ref, asks_a_future, gets])
def test_errors_keep_nothing_of_the_program(ray_session, ask):
    """Such as the last handle of an actor, until a collection."""
    ref = fail.remote(KeyError("k"))
    ray.wait([ref])
    gc.collect()
    gc.disable()
    try:
        assert ask(ref)() is None
    finally:
        gc.enable()


async def cancels_a_wait(ref, **options):
    held = Held()

    async def waits():
        beside = held  # noqa: F841 - what is held here is the question
        await ref.as_coroutine(**options)

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return weakref.ref(held)


async def cancels_a_first_step(ref, **options):
    held = Held()
    task = asyncio.create_task(ref.as_coroutine(**options))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return weakref.ref(held)


@pytest.mark.parametrize("options", [{}, {"cancel": True}, {"cancel": True, "grace_s": LIMIT_S}], ids=str)
@pytest.mark.parametrize("end", [cancels_a_wait, cancels_a_first_step])
def test_ended_waits_keep_nothing_of_the_program(start, options, end):
    """See above: a wait for a ref as a coroutine, which may cancel its task."""
    start(num_cpus=1)
    ref = echo.remote(1, 0.5)

    async def main():
        gc.collect()
        gc.disable()
        try:
            gone = await end(ref, **options)
            for _ in range(20):  # turns of the loop in which it lets go of what has ended
                await asyncio.sleep(0)
            assert gone() is None
        finally:
            gc.enable()

    asyncio.run(main())


def test_callbacks_hold_the_object_only_until_it_is_done(start, run):
    calls = []

    async def main():
        ref = echo.remote(b"x" * 10, 0.1)
        ref.add_done_callback(lambda ref: calls.append(ref.result()))
        gone = weakref.ref(ref)
        del ref
        assert gone() is not None
        await until(lambda: calls)
        await until(lambda: gone() is None)  # no cycle that only the collector would end
        await until(lambda: not inside.entries())

    start(num_cpus=1)
    gc.collect()
    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()
    assert calls == [b"x" * 10]


def test_a_callback_that_raises_harms_nobody(start):
    start(num_cpus=1)
    problems = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context["exception"]))
        ref = echo.remote(1, 0.05)
        ref.add_done_callback(lambda ref: 1 / 0)
        assert await ref == 1
        return await echo.remote(2, 0.05)

    assert asyncio.run(main()) == 2
    assert [type(problem) for problem in problems] == [ZeroDivisionError]


# --- cancelled and closed -------------------------------------------------------------------------


def test_cancelled_awaiters_leave_the_ref_usable(start, run, quiet):
    """And the late result finds nobody to disturb."""
    start(num_cpus=2)

    async def main():
        refs = [echo.remote(i, 0.2) for i in range(2)]
        tasks = [asyncio.ensure_future(ref) for ref in refs * 5]
        futures = [ref.as_future() for ref in refs]
        await asyncio.sleep(0.01)
        for waiting in [*tasks[:-1], *futures]:
            waiting.cancel()
        assert await tasks[-1] == 1
        assert await asyncio.gather(*refs) == [0, 1]
        assert all(waiting.cancelled() for waiting in [*tasks[:-1], *futures])
        assert inside.listeners() == 0

    run(main())


def test_cancelled_while_the_result_arrives(start, rounds, quiet):
    """The cancel and the note that the object is ready are on the loop at once."""
    start(num_cpus=2)

    async def main():
        outcomes = set()
        for i in range(rounds(300, 10_000)):
            ref = echo.remote(i)
            task = asyncio.ensure_future(ref)
            await until(ref.done)
            task.cancel()
            try:
                outcomes.add(await task == i)
            except asyncio.CancelledError:
                outcomes.add("cancelled")
        assert outcomes <= {True, "cancelled"}
        assert await echo.remote(1) == 1
        return outcomes

    print(asyncio.run(main()))


def test_the_coroutine_can_cancel_its_task(start, run):
    start(num_cpus=1)

    async def main():
        for cancels in (False, True):
            ref = echo.remote(1, 0.5)
            task = asyncio.create_task(ref.as_coroutine(cancel=cancels))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            if cancels:
                with pytest.raises(TaskCancelledError):
                    await ref
            else:
                assert await ref == 1

    run(main())


def test_loop_closed_before_completion(start, quiet):
    start(num_cpus=2)
    refs = [echo.remote(i, 0.3) for i in range(2)]
    loop = asyncio.new_event_loop()

    async def main():
        for ref in refs:
            ref.add_done_callback(print)
            ref.as_future()
        tasks = [asyncio.ensure_future(ref) for ref in refs]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    loop.run_until_complete(main())
    loop.close()
    gone = weakref.ref(loop)
    del loop
    assert ray.get(refs) == [0, 1]
    time.sleep(0.05)
    gc.collect()
    assert gone() is None
    assert inside.listeners() == 0


def test_refs_of_an_ended_session(run, mode):
    with ray.init(local_mode=mode == "local_mode", num_cpus=1):
        ready, pending = echo.remote(1), echo.remote(2, 0.0 if mode == "local_mode" else 30)
        ray.get(ready)

    async def main():
        for ref in (ready, pending):
            assert ref.done()
            assert isinstance(ref.exception(), RayConnectionError)
            assert await asyncio.wait([ref]) == ({ref}, set())
            with pytest.raises(RayConnectionError, match="ended"):
                await ref
            for ask in (ref.result, ref.future, ref.as_future, functools.partial(completion.when_done, ref, print)):
                with pytest.raises(RayConnectionError):
                    ask()

    run(main())
    with ray.init(local_mode=mode == "local_mode", num_cpus=1):
        run(main())


def test_the_session_ends_while_refs_are_awaited(mode, quiet):
    """Nobody is left waiting; the awaiting loop is not the one that ends the session."""
    if mode == "local_mode":
        return
    ray.init(num_cpus=1)
    refs = [echo.remote(i, 30) for i in range(3)]
    future = refs[1].future()
    told = threading.Event()
    completion.when_done(refs[2], told.set)

    async def main():
        threading.Timer(0.2, ray.shutdown).start()
        with pytest.raises(RayConnectionError):
            await refs[0]
        done, _ = await asyncio.wait(refs)
        assert done == set(refs)

    asyncio.run(main())
    assert told.wait(LIMIT_S)
    with pytest.raises(RayConnectionError):
        future.result(LIMIT_S)
    while ray.is_initialized():
        time.sleep(0.01)


# --- concurrent.futures ---------------------------------------------------------------------------


def test_concurrent_futures(ray_session):
    refs = [echo.remote(i, 0.01) for i in range(4)]
    futures = [ref.future() for ref in refs]
    assert all(isinstance(future, concurrent.futures.Future) for future in futures)
    assert [future.object_ref for future in futures] == refs
    got = []
    for future in concurrent.futures.as_completed(futures, LIMIT_S):
        assert future.done()
        assert not future.running()
        assert future.exception() is None
        got.append(future.result())
    assert sorted(got) == [0, 1, 2, 3]
    bad = fail.remote(KeyError("k")).future()
    assert isinstance(bad.exception(LIMIT_S), KeyError)
    with pytest.raises(KeyError):
        bad.result()
    done, _ = concurrent.futures.wait([bad, *futures], LIMIT_S, concurrent.futures.FIRST_EXCEPTION)
    assert bad in done


def test_futures_keep_the_object(start):
    start(num_cpus=1)
    future = ray.put([1]).future()
    pending = echo.remote([2], 0.1).future()
    gc.collect()
    assert future.result(LIMIT_S) == [1]
    assert future.result() is future.result()
    assert pending.result(LIMIT_S) == [2]


def test_futures_time_out_and_are_cancelled(start):
    start(num_cpus=1)
    ref = echo.remote(1, 0.4)
    future, other = ref.future(), ref.future()
    for ask in (future.result, future.exception):
        with pytest.raises(TimeoutError):
            ask(0.01)
    assert not future.done()
    assert future.cancel()
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    done, pending = concurrent.futures.wait([future, other], 0.01)
    assert (done, pending) == ({future}, {other})
    assert other.result(LIMIT_S) == 1  # the task goes on
    assert not other.cancel()


def test_callbacks_of_futures_may_do_anything(start, caplog):
    """They run on one thread of their own: what one does harms neither the session nor the others."""
    start(num_cpus=1)
    before = {thread.name for thread in threading.enumerate()}
    got = []
    futures = [echo.remote(i, 0.02).future() for i in range(5)]
    futures[0].add_done_callback(lambda future: sys.exit(3))
    futures[1].add_done_callback(lambda future: 1 / 0)
    futures[2].add_done_callback(
        lambda future: got.append((ray.get(echo.remote("inside")), threading.current_thread().name))
    )
    assert {thread.name for thread in threading.enumerate()} - before == {"ray-futures"}
    assert [future.result(LIMIT_S) for future in futures] == [*range(5)]
    end = time.monotonic() + LIMIT_S
    while not got and time.monotonic() < end:
        time.sleep(0.01)
    assert got == [("inside", "ray-futures")]
    while "ray-futures" in {thread.name for thread in threading.enumerate()} and time.monotonic() < end:
        time.sleep(0.01)
    assert {thread.name for thread in threading.enumerate()} == before
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]
    caplog.clear()  # the records hold the futures


def test_a_callback_waits_for_another_future(ray_session):
    """The thread that runs it would have to complete that one."""
    got = []

    def follow(future):
        later = echo.remote("later", 0.05).future()
        later.add_done_callback(lambda future: got.append(future.result()))
        got.append(later.result(LIMIT_S))
        got.append(isinstance(fail.remote(KeyError("k")).future().exception(), KeyError))
        try:
            got.append(slow.future().result(0.05))
        except TimeoutError:
            got.append("slow")

    slow = echo.remote("slow", 1.0)
    echo.remote(1).future().add_done_callback(follow)
    end = time.monotonic() + LIMIT_S
    while "slow" not in got and time.monotonic() < end:
        time.sleep(0.01)
    assert got == ["later", "later", True, "slow"]
    assert echo.remote(2).future().result(LIMIT_S) == 2


def test_wrap_future(ray_session, run, mode):
    async def main():
        ref = echo.remote(1, 0.05)
        fut: asyncio.Future = asyncio.wrap_future(ref.future())
        assert await fut == 1
        assert await ref.as_future() == 1
        assert isinstance(ref.as_future(), asyncio.Future)
        with pytest.raises(ValueError):
            await asyncio.wrap_future(fail.remote(ValueError()).future())
        with pytest.raises(ValueError):
            await fail.remote(ValueError(), 0.05).as_future()
        if mode == "local_mode":
            return
        slow = echo.remote(2, 0.2)
        wrapped = asyncio.wrap_future(slow.future())
        wrapped.cancel()
        assert await slow == 2

    run(main())


# --- completion -----------------------------------------------------------------------------------


def test_when_done(ray_session, mode):
    told = threading.Event()
    ref = echo.remote(1, 0.1)
    withdraw = completion.when_done(ref, told.set)
    assert told.wait(LIMIT_S)
    assert completion.is_done(ref)
    assert completion.value_of(ref) == 1
    withdraw()
    now = []
    completion.when_done(ref, lambda: now.append(threading.get_ident()))
    assert now == [threading.get_ident()]
    if mode == "local_mode":
        return
    never = []
    slow = echo.remote(2, 0.1)
    withdraw = completion.when_done(slow, lambda: never.append(1))
    assert not completion.is_done(slow)
    with pytest.raises(ray.exceptions.GetTimeoutError):
        completion.value_of(slow)
    withdraw()
    withdraw()
    assert ray.get(slow) == 2
    assert never == []


def test_borrowed_refs_are_fetched(start):
    """In a process that does not own them; of a dead owner they fail."""
    start(num_cpus=3)

    @ray.remote
    def awaits(refs):
        async def main():
            ready, _ = await asyncio.wait(refs)
            return len(ready), await refs[0], refs[0].future().result(LIMIT_S)

        return asyncio.run(main())

    assert ray.get(awaits.remote([echo.remote(1, 0.2)]), timeout=LIMIT_S) == (1, 1, 1)

    @ray.remote
    class Owner:
        def make(self):
            return [echo.remote(1, 30)]

        def pid(self):
            return os.getpid()

    owner = Owner.remote()
    [ref] = ray.get(owner.make.remote(), timeout=LIMIT_S)

    async def main():
        task = asyncio.ensure_future(ref)
        await asyncio.sleep(0.1)
        ray.kill(owner)
        with pytest.raises(ray.exceptions.OwnerDiedError):
            await task

    asyncio.run(asyncio.wait_for(main(), LIMIT_S))


def test_an_actor_dies_while_it_is_awaited(start, run):
    start(num_cpus=1)

    @ray.remote
    class Sleeper:
        def nap(self):
            time.sleep(30)

    async def main():
        sleeper = Sleeper.remote()
        ref = sleeper.nap.remote()
        await asyncio.sleep(0.3)
        ray.kill(sleeper)
        with pytest.raises(RayActorError):
            await ref

    run(main())


def test_a_loop_inside_a_task_gives_its_cpu_back(start):
    """A coroutine that awaits there waits for tasks that need it."""
    start(num_cpus=1)

    @ray.remote
    def parent(depth):
        async def main():
            if not depth:
                return 0
            children = await asyncio.gather(parent.remote(depth - 1), parent.remote(depth - 1))
            return 1 + max(children)

        return asyncio.run(main())

    assert ray.get(parent.remote(3), timeout=40) == 3


# --- other libraries, the whole program -----------------------------------------------------------


def test_get_async(ray_session, run):
    from ray.async_compat import get_async

    assert run(get_async(echo.remote(1, 0.05))) == 1
    with pytest.raises(KeyError):
        run(get_async(fail.remote(KeyError())))


def test_trio(start):
    trio = pytest.importorskip("trio")
    start(num_cpus=2)
    got = []

    async def one(i):
        got.append(await echo.remote(i, 0.02))

    async def main():
        assert await ray.put(1) == 1
        async with trio.open_nursery() as nursery:
            for i in range(3):
                nursery.start_soon(one, i)
        slow = echo.remote(9, 0.3)
        with trio.move_on_after(0.02) as scope:
            await slow
        assert scope.cancelled_caught
        assert await slow == 9
        with pytest.raises(KeyError):
            await fail.remote(KeyError(), 0.02)
        for i in range(200):  # cancelled while the result arrives
            with trio.move_on_after(0.0005):
                assert await echo.remote(i) == i
        with pytest.raises(RuntimeError, match=r"[nN]o running event loop"):
            slow.as_future()

    trio.run(main)
    assert sorted(got) == [0, 1, 2]
    pending = echo.remote(1, 0.2)

    async def leaves():
        with trio.move_on_after(0.01):
            await pending

    trio.run(leaves)
    assert ray.get(pending) == 1
    assert inside.listeners() == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio(start, backend):
    anyio = pytest.importorskip("anyio")
    pytest.importorskip(backend)
    start(num_cpus=2)
    got = []

    async def one(i):
        got.append(await echo.remote(i, 0.02))

    async def main():
        async with anyio.create_task_group() as group:
            for i in range(3):
                group.start_soon(one, i)
        with anyio.move_on_after(0.02) as scope:
            await echo.remote(9, 0.3)
        assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    assert sorted(got) == [0, 1, 2]


PROGRAM = """
import asyncio, time
import ray

@ray.remote
def echo(x, seconds=0.0):
    time.sleep(seconds)
    return x

async def main():
    asyncio.get_running_loop().slow_callback_duration = 2.0  # a busy machine makes it tell of a tenth of a second
    refs = [echo.remote(i, 0.001) for i in range(50)]
    assert await asyncio.gather(*refs) == list(range(50))
    done, pending = await asyncio.wait([echo.remote(1, 0.2), echo.remote(2)], return_when=asyncio.FIRST_COMPLETED)
    try:
        await asyncio.wait_for(echo.remote(3, 1.0), 0.05)
    except TimeoutError:
        pass
    cancelled = asyncio.ensure_future(echo.remote(4, 0.1))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0.3)
    print(await asyncio.wrap_future(echo.remote(5).future()), await echo.remote(6).as_future())

with ray.init(num_cpus=2, log_to_driver=False):
    asyncio.run(main())
    asyncio.run(main())
"""


def test_debug_mode_has_nothing_to_say(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(script)],
        env={**os.environ, "PYTHONASYNCIODEBUG": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # What was given up after 50 ms runs for a second, and is told of at the end.
    said = re.sub(r"^\[ray\] \d tasks? had not finished .*\n", "", done.stderr)
    assert (done.returncode, done.stdout, said) == (0, "5 6\n" * 2, "")


def test_awaiting_blocks_no_loop(start):
    """Nothing of ours blocks the thread of a loop."""
    blockbuster = pytest.importorskip("blockbuster")
    start(num_cpus=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = blockbuster.BlockBuster()
    detector.activate()
    try:

        async def main():
            refs = [echo.remote(i, 0.001) for i in range(20)]
            assert await asyncio.gather(*refs) == [*range(20)]
            assert len((await asyncio.wait([echo.remote(1, 0.05), ray.put(2)]))[0]) == 2
            assert await asyncio.wrap_future(echo.remote(3, 0.01).future()) == 3
            assert await echo.remote(4, 0.01).as_future() == 4
            with pytest.raises(blockbuster.BlockingError):
                time.sleep(0.01)  # noqa: ASYNC251 - the detector works

        asyncio.run(main())
    finally:
        detector.deactivate()
