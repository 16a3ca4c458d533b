"""The executor of async actors: the contract, and what an event loop adds to it."""

import asyncio
import contextvars
import functools
import os
import threading
import time

import pytest

from ray.exceptions import PluginOptionsError
from ray.testing.contracts._checks_executor import Probe, Record, running
from ray.testing.contracts._expect import eventually
from ray.testing.contracts.executor import ExecutorContract
from ray_async.executor import STARTS_PER_TURN, AsyncioExecutor


class TestAsyncio(ExecutorContract):
    is_async = True

    @pytest.fixture
    def make_executor(self):
        return AsyncioExecutor


class TestUvloop(ExecutorContract):
    is_async = True

    @pytest.fixture
    def make_executor(self):
        uvloop = pytest.importorskip("uvloop")
        return functools.partial(AsyncioExecutor, new_loop=uvloop.new_event_loop)


class TestSyncCallsInThreads(ExecutorContract):
    is_async = False

    @pytest.fixture
    def make_executor(self):
        return functools.partial(AsyncioExecutor, sync_in_threads=True)


class AsyncCall:
    """A call that is a coroutine function."""

    group = None
    is_async = True
    in_thread = False

    def __init__(self, function):
        self.name = function.__name__
        self._function = function

    def run(self):
        raise AssertionError("it belongs on the loop")

    async def run_async(self):
        await self._function()


@pytest.mark.parametrize("limits", [(0, {}), (1, {"io": 0})])
def test_limits_below_one_are_refused(limits):
    with pytest.raises(ValueError, match="at least 1"):
        AsyncioExecutor(*limits)


def test_making_one_holds_nothing_of_the_operating_system():
    before = set(threading.enumerate())
    executor = AsyncioExecutor(1000, {"io": 10}, new_loop=lambda: pytest.fail("made too early"), sync_in_threads=True)
    assert set(threading.enumerate()) == before
    executor.close()


def test_everything_runs_on_the_thread_of_run():
    executor, record = AsyncioExecutor(10), Record()
    with running(executor) as thread:
        for is_async in (True, False):
            executor.submit(Probe(record, is_async=is_async))
        eventually(lambda: len(record.ended) == 2, "the calls run")
        assert record.threads == {thread.ident}


def test_a_call_for_which_there_is_no_thread_fails_and_never_runs(monkeypatch):
    """The pool has it queued all the same, and threads that there are look into that queue."""
    executor, record, go = AsyncioExecutor(2, sync_in_threads=True), Record(), threading.Event()

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with running(executor):
        executor.submit(Probe(record, "first", then=lambda: go.wait(30)))
        eventually(lambda: record.started == ["first"], "the call runs")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            executor.submit(Probe(record, "second"))
            eventually(lambda: record.failed == ["second"], "the call fails")
        go.set()
        eventually(lambda: record.ended == ["first"], "the other goes on")
        executor.submit(Probe(record, "third"))
        eventually(lambda: "third" in record.ended, "calls run again")
    assert record.started == ["first", "third"]


def test_many_submits_wake_the_loop_once_and_are_started_in_portions():
    wakes, turns = [], []

    def new_loop():
        loop = asyncio.new_event_loop()
        add_reader = loop.add_reader
        loop.add_reader = lambda fd, look, flag: add_reader(fd, lambda: (wakes.append(fd), look(flag)))
        return loop

    executor, gate, ended = AsyncioExecutor(10_000, new_loop=new_loop), threading.Event(), []

    async def block():
        gate.wait(10)

    async def count():
        turns.append(asyncio.get_running_loop().time())
        ended.append(1)

    with running(executor):
        executor.submit(AsyncCall(block))
        time.sleep(0.05)
        del wakes[:]
        for _ in range(10 * STARTS_PER_TURN):
            executor.submit(AsyncCall(count))
        gate.set()
        eventually(lambda: len(ended) == 10 * STARTS_PER_TURN, "the calls run")
        assert len(wakes) == 1


def test_a_program_that_closes_the_descriptor_of_the_flag():
    executor, ended = AsyncioExecutor(10), []

    async def closes():
        os.close(executor._flag.fileno())

    async def note():
        ended.append(1)

    with running(executor):
        executor.submit(AsyncCall(closes))
        for number in range(1, 4):
            time.sleep(0.02)
            executor.submit(AsyncCall(note))
            eventually(lambda number=number: len(ended) == number, "the call runs")


def test_a_program_that_opens_another_file_under_the_number_of_the_flag(tmp_path):
    executor, opened = AsyncioExecutor(10), []

    async def opens():
        number = executor._flag.fileno()
        os.close(number)
        opened.append(os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR))
        assert opened == [number]

    with running(executor):
        executor.submit(AsyncCall(opens))
        eventually(lambda: opened, "the file is open")
    os.close(opened[0])  # it is open still


def test_calls_share_no_context():
    variable, seen = contextvars.ContextVar("variable", default="clean"), []
    executor = AsyncioExecutor(1)

    async def dirty():
        seen.append(variable.get())
        variable.set("dirty")

    with running(executor):
        token = variable.set("of the thread that submits")
        for _ in range(3):
            executor.submit(AsyncCall(dirty))
        variable.reset(token)
        eventually(lambda: len(seen) == 3, "the calls run")
    assert seen == ["clean"] * 3


def test_a_call_cancelled_before_its_first_step_is_run_all_the_same():
    executor, ended = AsyncioExecutor(100), []

    async def cancels_all():
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def ends():
        ended.append(1)

    with running(executor):
        gate = threading.Event()

        async def block():
            gate.wait(10)

        executor.submit(AsyncCall(block))
        time.sleep(0.05)
        executor.submit(AsyncCall(cancels_all))
        for _ in range(20):
            executor.submit(AsyncCall(ends))
        gate.set()
        eventually(lambda: len(ended) == 20, "the calls run")
        eventually(executor.idle, "nothing waits")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_task_that_wants_to_end_the_program_does_not_end_the_loop(error):
    executor, got = AsyncioExecutor(10), []

    async def raises():
        raise error

    async def catches():
        task = asyncio.create_task(raises())
        try:
            await task
        except BaseException as caught:
            got.append(caught)

    async def ends():
        got.append("fine")

    with running(executor):
        executor.submit(AsyncCall(catches))
        eventually(lambda: got == [error], "the coroutine that awaits it gets the error")
        executor.submit(AsyncCall(ends))
        eventually(lambda: got == [error, "fine"], "the loop goes on")


def test_what_calls_leave_on_the_loop_is_ended():
    executor, words = AsyncioExecutor(10), []

    async def background():
        try:
            await asyncio.sleep(60)
        finally:
            words.append("background")

    async def generator():
        try:
            while True:
                yield 1
        finally:
            words.append("generator")

    async def starts():
        executor.kept = asyncio.create_task(background()), generator()
        await anext(executor.kept[1])
        words.append("started")

    with running(executor):
        executor.submit(AsyncCall(starts))
        eventually(lambda: words == ["started"], "the call runs")
    assert sorted(words[1:]) == ["background", "generator"]


def test_the_end_does_not_wait_for_what_does_not_end():
    executor, words = AsyncioExecutor(10), []

    async def deaf():
        end = time.monotonic() + 5
        while time.monotonic() < end:
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                words.append("cancelled")

    async def starts():
        executor.kept = asyncio.create_task(deaf())
        await asyncio.sleep(0)
        executor.close()

    thread = threading.Thread(target=executor.run)
    thread.start()
    executor.submit(AsyncCall(starts))
    thread.join(3)
    assert not thread.is_alive()
    assert words == ["cancelled"]
    executor.kept._log_destroy_pending = False


def test_options():
    from ray.config import check_options, make_options
    from ray.config.sources import Setting
    from ray_async.plugins.asyncio_executor import PLUGIN, ray_make_executor

    def make(**given):
        settings = {name: Setting(value, "from the test") for name, value in given.items()}
        return make_options(PLUGIN.options, check_options(PLUGIN.options, settings, "executor='asyncio'"))

    assert not ray_make_executor(make(), 3, {})._sync_in_threads
    executor = ray_make_executor(make(sync_methods="threads", loop="asyncio"), 3, {"io": 2})
    assert executor._threads._max_workers == 5
    for wrong in ({"loop": "trio"}, {"sync_methods": "no"}, {"loops": "asyncio"}):
        with pytest.raises(PluginOptionsError):
            make(**wrong)


def test_uvloop_that_is_not_installed_is_asked_for(monkeypatch):
    from ray_async.plugins import asyncio_executor

    monkeypatch.setattr(asyncio_executor, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install uvloop"):
        asyncio_executor.AsyncioOptions(loop="uvloop")
