"""Structured concurrency: task groups, ``map`` and ``as_completed``."""

import asyncio
import contextlib
import os
import threading
import time

import pytest

import ray
import ray_async
from ray.exceptions import TaskCancelledError
from ray_async import TaskGroup, as_completed, as_coroutine, map


@ray.remote
def nap(seconds, value=None):
    time.sleep(seconds)
    return seconds if value is None else value


@ray.remote
def fail(seconds=0.0):
    time.sleep(seconds)
    raise KeyError("as asked")


@ray.remote
class Gauge:
    """Counts how many calls are in it."""

    def __init__(self):
        self.running = self.highest = self.calls = 0

    async def enter(self, seconds, value=None):
        self.running += 1
        self.calls += 1
        self.highest = max(self.highest, self.running)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.running -= 1
        return value

    async def facts(self):
        return self.running, self.highest, self.calls


def asyncio_run(main):
    return asyncio.run(asyncio.wait_for(main(), 30), debug=True)


def uvloop_run(main):
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main(), 30))


def object_loop_run(main):
    from ray.experimental import async_api

    return async_api.run_until_complete(asyncio.wait_for(main(), 30))


def trio_run(main):
    trio = pytest.importorskip("trio")

    async def limited():
        with trio.fail_after(30):
            return await main()

    return trio.run(limited)


with contextlib.suppress(ImportError):
    import uvloop

    uvloop.new_event_loop().close()  # the first one opens a pipe that stays for the life of the process

on_asyncio = pytest.mark.parametrize("run", [asyncio_run, uvloop_run, object_loop_run])
on_all = pytest.mark.parametrize("run", [asyncio_run, uvloop_run, object_loop_run, trio_run])


def is_cancelled(ref):
    """Whether the task has been cancelled, within a second."""
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=10)
    return True


# --- coroutines -------------------------------------------------------------------------------------------------------


@on_all
def test_as_coroutine(session, run):
    async def main():
        ref = nap.remote(0.05)
        assert await as_coroutine(ref) == 0.05
        assert await as_coroutine(ref, cancel=False) == 0.05
        with pytest.raises(KeyError):
            await as_coroutine(fail.remote(0.02))

    run(main)


@on_asyncio
@pytest.mark.parametrize("steps", [0, 1])
def test_cancelling_the_coroutine_cancels_the_task(session, run, steps, quiet):
    """Even before its first step."""

    async def main():
        cancelled, kept = nap.remote(20), nap.remote(0.3)
        tasks = [asyncio.create_task(as_coroutine(cancelled)), asyncio.create_task(as_coroutine(kept, cancel=False))]
        for _ in range(steps):
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [True, True]
        return cancelled, kept

    cancelled, kept = run(main)
    assert is_cancelled(cancelled)
    assert ray.get(kept) == 0.3


@on_asyncio
def test_cancelling_through_await_and_time_limits(session, run, quiet):
    async def main():
        refs = [nap.remote(20) for _ in range(3)]

        async def outer(ref):
            return await as_coroutine(ref)

        for waiting in (outer(refs[0]), as_coroutine(refs[1])):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waiting, 0.05)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await as_coroutine(refs[2])
        return refs

    assert all(is_cancelled(ref) for ref in run(main))


def test_a_finished_object_is_not_cancelled_late(session, quiet):
    async def main():
        for _ in range(100):
            task = asyncio.create_task(as_coroutine(nap.remote(0, "done")))
            await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.result() == "done"

    asyncio_run(main)


def test_coroutines_in_nurseries(session):
    trio = pytest.importorskip("trio")
    refs = [nap.remote(20), nap.remote(20)]

    async def main():
        with trio.move_on_after(0.1):
            async with trio.open_nursery() as nursery:
                for ref in refs:
                    nursery.start_soon(as_coroutine, ref)

    trio.run(main)
    assert all(is_cancelled(ref) for ref in refs)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_coroutines_in_groups_of_anyio(session, backend):
    anyio = pytest.importorskip("anyio")
    pytest.importorskip(backend)
    refs = [nap.remote(20), fail.remote(0.1)]

    async def child(ref):
        await as_coroutine(ref)

    async def main():
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with anyio.create_task_group() as group:
                for ref in refs:
                    group.start_soon(child, ref)
        assert [type(error) for error in caught.value.exceptions if isinstance(error, KeyError)]

    anyio.run(main, backend=backend)
    assert is_cancelled(refs[0])


# --- groups -----------------------------------------------------------------------------------------------------------


@on_asyncio
def test_children_of_both_kinds(session, run):
    async def main():
        async with TaskGroup() as group:
            remote = group.create_task(nap.remote(0.05), name="remote")
            local = group.create_task(asyncio.sleep(0.01, "local"))
            nested = group.create_task(nap.remote(nap.remote(0.01), "nested"))
        assert (remote.result(), local.result(), nested.result()) == (0.05, "local", "nested")
        assert remote.get_name() == "remote"

    run(main)


@on_asyncio
def test_a_failure_cancels_the_others(session, run, quiet):
    async def main():
        slow, actor = nap.remote(20), Gauge.remote()
        call = actor.enter.remote(20)
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with TaskGroup() as group:
                tasks = [group.create_task(child) for child in (slow, call, asyncio.sleep(20))]
                group.create_task(fail.remote(0.1))
                group.create_task(fail.remote(0.1))
        errors = caught.value.exceptions
        assert errors
        assert all(isinstance(error, KeyError) for error in errors)
        assert all(task.cancelled() for task in tasks)
        assert slow.done()
        assert call.done()
        return slow, call

    assert all(is_cancelled(ref) for ref in run(main))


@on_asyncio
def test_a_failing_block_cancels_its_children(session, run, quiet):
    async def main():
        refs = []
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with TaskGroup() as group:
                for _ in range(3):
                    refs.append(nap.remote(20))
                    group.create_task(refs[-1])
                raise ValueError("mine")
        assert [str(error) for error in caught.value.exceptions] == ["mine"]
        assert all(ref.done() for ref in refs)
        return refs

    assert all(is_cancelled(ref) for ref in run(main))


@ray.remote(max_retries=0)
def takes_leave(path, seconds):
    """Ends so long after it was cancelled."""
    try:
        (path / "runs").touch()
        time.sleep(30)
    finally:
        time.sleep(seconds)
        (path / "ended").touch()


async def runs(path):
    while not (path / "runs").exists():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@on_asyncio
@pytest.mark.parametrize("how", ["failure", "timeout"])
def test_the_block_lasts_until_cancelled_children_have_ended(session, run, how, tmp_path, quiet):
    async def main():
        with pytest.raises(ExceptionGroup if how == "failure" else TimeoutError):  # noqa: PT012
            async with asyncio.timeout(None) as limit, TaskGroup() as group:
                group.create_task(takes_leave.remote(tmp_path, 0.3))
                await runs(tmp_path)
                if how == "failure":
                    raise ValueError("mine")
                limit.reschedule(asyncio.get_running_loop().time())
                await asyncio.sleep(20)
        assert (tmp_path / "ended").exists()

    run(main)


@pytest.mark.parametrize("grace_s", [0.2, 0])
def test_a_child_that_does_not_end_is_left_behind(session, grace_s, tmp_path, quiet):
    async def main():
        child = takes_leave.remote(tmp_path, 1.5)
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with TaskGroup(grace_s=grace_s) as group:
                group.create_task(child)
                await runs(tmp_path)
                raise ValueError("mine")
        assert not (tmp_path / "ended").exists()
        late = [error for error in caught.value.exceptions if isinstance(error, TimeoutError)]
        assert len(late) == bool(grace_s)
        assert all(child.hex() in str(error) for error in late)
        return child

    assert is_cancelled(asyncio_run(main))
    assert (tmp_path / "ended").exists()


def test_a_second_cancellation_does_not_wait(session, tmp_path, quiet):
    async def main():
        child = takes_leave.remote(tmp_path, 1.5)
        tasks = []

        async def work():
            async with TaskGroup() as group:
                tasks.append(group.create_task(child))

        working = asyncio.create_task(work())
        await asyncio.sleep(0)
        await runs(tmp_path)
        working.cancel()
        await asyncio.sleep(0.1)
        assert not working.done()
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert not (tmp_path / "ended").exists()
        return child

    assert is_cancelled(asyncio_run(main))


def test_a_child_that_comes_too_late_is_cancelled(session, quiet):
    async def main():
        refs = [nap.remote(20), nap.remote(20)]
        async with TaskGroup() as group:
            pass
        with pytest.raises(RuntimeError):
            group.create_task(refs[0])
        with pytest.raises(RuntimeError):
            TaskGroup().create_task(refs[1])
        return refs

    assert all(is_cancelled(ref) for ref in asyncio_run(main))


def test_a_child_cancelled_elsewhere_is_a_failure(session, quiet):
    async def main():
        ref = nap.remote(20)
        asyncio.get_running_loop().call_later(0.1, ray.cancel, ref)
        with pytest.raises(ExceptionGroup) as caught:
            async with TaskGroup() as group:
                group.create_task(ref)
        assert [type(error) for error in caught.value.exceptions] == [TaskCancelledError]

    asyncio_run(main)


# --- map --------------------------------------------------------------------------------------------------------------


async def items(count):
    for i in range(count):
        await checkpoint()
        yield i


async def checkpoint():
    if asyncio._get_running_loop() is not None:
        await asyncio.sleep(0)
    else:
        import trio

        await trio.lowlevel.checkpoint()


@on_all
def test_map_keeps_the_order(session, run):
    async def main():
        assert [value async for value in map(nap, [0.1, 0.0, 0.05])] == [0.1, 0, 0.05]
        assert [value async for value in map(lambda i: nap.remote(0, i), items(50), limit=7)] == [*range(50)]
        assert [value async for value in map(nap, [])] == []

    run(main)


@on_all
def test_map_bounds_what_is_under_way(session, run):
    taken = []

    def source():
        for i in range(30):
            taken.append(i)
            yield i

    async def main():
        actor = Gauge.remote()
        seen = 0
        async for value in map(lambda i: actor.enter.remote(0.005, i), source(), limit=4):
            assert value == seen
            seen += 1
            assert len(taken) <= seen + 4
        assert await actor.facts.remote() == (0, 4, 30)

    run(main)


@on_all
def test_map_that_is_left_cancels_what_is_under_way(session, run):
    refs = []

    def call(i):
        refs.append(nap.remote(20 if i > 1 else 0, i))
        return refs[-1]

    async def main():
        async with contextlib.aclosing(map(call, range(10), limit=3)) as values:
            async for value in values:
                if value == 1:
                    break

    run(main)
    assert len(refs) <= 5
    assert all(is_cancelled(ref) for ref in refs[2:])


@on_all
def test_map_raises_the_first_failure(session, run):
    slow = []

    def call(i):
        if i == 1:
            return fail.remote()
        if i > 1:
            slow.append(nap.remote(20))
            return slow[-1]
        return nap.remote(0, i)

    async def main():
        seen = []
        with pytest.raises(KeyError):  # noqa: PT012
            async for value in map(call, range(10), limit=3):
                seen.append(value)
        assert seen == [0]

    run(main)
    assert slow
    assert all(is_cancelled(ref) for ref in slow)


def test_map_checks_its_arguments(session):
    async def main():
        for limit in (0, -1):
            with pytest.raises(ValueError, match="limit must be at least 1"):
                await anext(map(nap, [1], limit=limit))
        with pytest.raises(TypeError, match=r"returned 2\b"):
            await anext(map(lambda x: x + 1, [1]))

        def broken():
            yield 0
            raise OSError("source")

        with pytest.raises(OSError, match="source"):
            async for _ in map(nap, broken()):
                pass

    asyncio_run(main)


# --- as_completed -----------------------------------------------------------------------------------------------------


@on_all
def test_as_completed_yields_refs_as_they_become_ready(session, run):
    async def main():
        refs = [nap.remote(seconds) for seconds in (0.6, 0.0, 0.3)]
        assert [await ref async for ref in as_completed(refs)] == [0, 0.3, 0.6]
        failing = fail.remote()
        assert [ref async for ref in as_completed([failing])] == [failing]
        assert [ref async for ref in as_completed([])] == []

    run(main)


@on_all
def test_as_completed_takes_refs_as_it_needs_them(session, run):
    async def main():
        actor = Gauge.remote()
        refs = (actor.enter.remote(0.005, i) for i in range(30))
        values = [await ref async for ref in as_completed(refs, limit=5)]
        assert sorted(values) == [*range(30)]
        _, highest, calls = await actor.facts.remote()
        assert (highest, calls) == (5, 30)

        async def source():
            async for i in items(10):
                yield nap.remote(0, i)

        assert sorted([await ref async for ref in as_completed(source(), limit=3)]) == [*range(10)]

    run(main)


@on_all
@pytest.mark.parametrize("cancel", [True, False])
def test_as_completed_that_is_left(session, run, cancel):
    slow = nap.remote(20 if cancel else 0.5)

    async def main():
        async with contextlib.aclosing(as_completed([slow, nap.remote(0)], cancel=cancel)) as refs:
            async for ref in refs:
                assert await ref == 0
                break

    run(main)
    assert is_cancelled(slow) if cancel else ray.get(slow) == 0.5


def test_as_completed_checks_its_arguments(session):
    async def main():
        ref = nap.remote(0.2)
        with pytest.raises(ValueError, match="limit"):
            await anext(as_completed([ref], limit=0))
        for wrong in ([ref, ref], [3]):
            with pytest.raises(ValueError, match=r"already been registered|no object ref"):
                await anext(as_completed(wrong))

    asyncio_run(main)


def descriptors():
    """How many are open, without sockets: connections to workers come and go."""
    links = []
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the one for listing
            links.append(os.readlink(f"/dev/fd/{name}"))
    return sum(not link.startswith("socket:") for link in links)


def test_as_completed_holds_no_thread_and_one_descriptor(session):
    async def main():
        ref = nap.remote(20)
        before = descriptors(), threading.active_count()
        iteration = as_completed([ref])
        waiting = asyncio.ensure_future(anext(iteration))
        await asyncio.sleep(0.2)
        during = descriptors(), threading.active_count()
        waiting.cancel()
        await asyncio.wait([waiting])
        await iteration.aclose()
        ray.cancel(ref)
        return before, during

    (fds, threads), (fds_during, threads_during) = asyncio_run(main)
    assert threads_during == threads
    assert fds_during <= fds + 1


def test_what_the_package_exports():
    assert sorted(ray_async.__all__) == ["TaskGroup", "__version__", "as_completed", "as_coroutine", "map"]
    for name in ray_async.__all__:
        assert getattr(ray_async, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ray_async.nothing  # noqa: B018
