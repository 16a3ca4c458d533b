"""What every executor must do. Each check takes an ``ExecutorSubject`` and raises ``ContractViolationError``."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ray.abc.executor import Executor
from ray.clock import sleep
from ray.testing.contracts._expect import DEADLINE_S, eventually, expect, expect_equal, in_time


@dataclass(frozen=True)
class ExecutorSubject:
    """A way to make executors; the checks close them."""

    make: Callable[[int, Mapping[str, int]], Executor]
    """Called with max_concurrency and the concurrency groups."""
    is_async: bool = False
    """Whether the executor is meant for coroutine functions: its calls then wait without blocking their thread."""


Check: TypeAlias = Callable[[ExecutorSubject], None]


@dataclass
class Record:
    """What a set of calls did."""

    started: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    running: int = 0
    peak: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Probe:
    """A call that notes when it runs and waits for its gate."""

    def __init__(
        self,
        record: Record,
        name: str = "",
        *,
        gate: threading.Event | None = None,
        group: str | None = None,
        then: Callable[[], None] | None = None,
        is_async: bool = False,
    ) -> None:
        self.name = name
        self.group = group
        self.is_async = is_async
        self.in_thread = False
        self._record = record
        self._gate = gate
        self._then = then

    def run(self) -> None:
        """Note, wait, note."""
        self._enter()
        if self._gate is not None:
            self._gate.wait(DEADLINE_S)
        self._leave()

    async def run_async(self) -> None:
        """The same without blocking the thread."""
        self._enter()
        while self._gate is not None and not self._gate.is_set():  # noqa: ASYNC110 (set by another thread)
            await asyncio.sleep(0.001)
        self._leave()

    def fail(self, error: Exception) -> None:
        """Note that it could not be run."""
        with self._record.lock:
            self._record.failed.append(self.name)

    def _enter(self) -> None:
        record = self._record
        with record.lock:
            record.started.append(self.name)
            record.threads.add(threading.get_ident())
            record.running += 1
            record.peak = max(record.peak, record.running)

    def _leave(self) -> None:
        if self._then is not None:
            self._then()
        record = self._record
        with record.lock:
            record.running -= 1
            record.ended.append(self.name)


@contextmanager
def running(executor: Executor, gate: threading.Event | None = None) -> Iterator[threading.Thread]:
    """Run the executor on a thread; at the end close it and see that ``run`` returns.

    A failing check opens ``gate``, so that no call is left waiting for it.
    """
    thread = threading.Thread(target=executor.run, name="contract-executor", daemon=True)
    thread.start()
    try:
        yield thread
    except BaseException:
        if gate is not None:
            gate.set()
        raise
    finally:
        executor.close()
        thread.join(DEADLINE_S)
    expect(not thread.is_alive(), "close makes run return")


def calls_run_once_in_order(subject: ExecutorSubject) -> None:
    executor, record = subject.make(1, {}), Record()
    names = [str(number) for number in range(1000)]
    for name in names[:500]:
        executor.submit(Probe(record, name, is_async=subject.is_async))
    with running(executor):
        for name in names[500:]:
            executor.submit(Probe(record, name, is_async=subject.is_async))
        eventually(lambda: len(record.ended) >= 1000, "every call runs, also those submitted before run")
    expect_equal(record.started, names, "with a concurrency of 1, calls start once and in the order of submit")
    expect_equal(record.peak, 1, "with a concurrency of 1, calls run one at a time")


def submit_never_blocks(subject: ExecutorSubject) -> None:
    executor, record, gate = subject.make(2, {}), Record(), threading.Event()
    with running(executor, gate):

        def submit() -> None:
            for number in range(500):
                executor.submit(Probe(record, str(number), gate=gate, is_async=subject.is_async))

        in_time(submit, "submit never waits for a call")
        gate.set()
        eventually(lambda: len(record.ended) == 500, "every call runs")


def concurrency_is_limited(subject: ExecutorSubject) -> None:
    executor, record, gate = subject.make(3, {}), Record(), threading.Event()
    with running(executor, gate):
        for number in range(12):
            executor.submit(Probe(record, str(number), gate=gate, is_async=subject.is_async))
        eventually(lambda: record.running >= (3 if executor.concurrent else 1), "calls start while there is room")
        sleep(0.05)  # a thirteenth that should not start needs a moment to do so
        gate.set()
        eventually(lambda: len(record.ended) == 12, "every call runs")
    expect_equal(record.peak, 3 if executor.concurrent else 1, "at most max_concurrency calls run at a time")


def idle_tells_whether_calls_wait(subject: ExecutorSubject) -> None:
    executor, record, gate = subject.make(1, {}), Record(), threading.Event()
    expect(executor.idle(), "an executor without calls is idle")
    with running(executor, gate):
        executor.submit(Probe(record, "runs", gate=gate, is_async=subject.is_async))
        eventually(lambda: record.running, "a submitted call starts")
        eventually(executor.idle, "a call that runs does not count as queued", 1.0)
        executor.submit(Probe(record, "waits", is_async=subject.is_async))
        expect(not executor.idle(), "a call that waits for its turn counts as queued")
        gate.set()
        eventually(lambda: len(record.ended) == 2, "every call runs")
        eventually(executor.idle, "an executor is idle once its calls have run", 1.0)


def close_drops_what_is_queued(subject: ExecutorSubject) -> None:
    executor, record, gate = subject.make(1, {}), Record(), threading.Event()
    with running(executor, gate) as thread:
        executor.submit(Probe(record, "runs", gate=gate, is_async=subject.is_async))
        eventually(lambda: record.running, "a submitted call starts")
        for _ in range(10):
            executor.submit(Probe(record, "dropped", is_async=subject.is_async))
        executor.close()
        thread.join(0.05)
        expect(thread.is_alive(), "run returns after the calls that run, not before")
        gate.set()
    expect_equal(record.ended, ["runs"], "close finishes what runs and drops what is queued")


def close_can_come_at_any_time(subject: ExecutorSubject) -> None:
    executor = subject.make(2, {})
    executor.close()
    executor.close()
    in_time(executor.run, "run returns at once after close")
    record = Record()
    executor.submit(Probe(record, "late", is_async=subject.is_async))
    expect_equal(record.started, [], "a call submitted after close is dropped")
    executor = subject.make(2, {})
    with running(executor):
        pass


def a_call_may_close_its_executor(subject: ExecutorSubject) -> None:
    executor, record = subject.make(1, {}), Record()
    thread = threading.Thread(target=executor.run, daemon=True)
    thread.start()
    executor.submit(Probe(record, "last", then=executor.close, is_async=subject.is_async))
    executor.submit(Probe(record, "dropped", is_async=subject.is_async))
    thread.join(DEADLINE_S)
    expect(not thread.is_alive(), "close from inside a call makes run return")
    expect_equal(record.ended, ["last"], "close from inside a call lets that call end, and drops the rest")


def finished_calls_are_forgotten(subject: ExecutorSubject) -> None:
    executor, record = subject.make(2, {}), Record()
    with running(executor):
        call = Probe(record, is_async=subject.is_async)
        gone = weakref.ref(call)
        executor.submit(call)
        del call
        eventually(lambda: gone() is None, "a call that has ended is not kept: it holds arguments", 2.0)


def every_call_is_answered(subject: ExecutorSubject) -> None:
    """It runs, or fails, whatever the user's code has the tasks of the loop made with, where there is a loop."""
    for factory in (_eager_task, _no_task):
        executor, record = subject.make(4, {}), Record()
        with running(executor):
            executor.submit(Probe(record, "meddles", then=lambda f=factory: _meddle(f), is_async=subject.is_async))  # type: ignore[misc]
            eventually(lambda r=record: r.ended, "a submitted call runs")  # type: ignore[misc]
            for name in "abc":
                executor.submit(Probe(record, name, is_async=subject.is_async))
            eventually(
                lambda r=record: len(r.ended) + len(r.failed) == 4,  # type: ignore[misc]
                "every call is run or fails, whatever the tasks of the loop are made with",
            )
        expect_equal({*record.ended, *record.failed}, {"meddles", *"abc"}, "a call is answered once")


def _meddle(factory: Any) -> None:
    loop = asyncio._get_running_loop()
    if loop is not None:
        loop.set_task_factory(factory)


def _eager_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
    """As ``asyncio.eager_task_factory`` of Python 3.12 for a coroutine that ends, or waits, without a current task."""
    future = loop.create_future()
    try:
        coroutine.send(None)
    except StopIteration as end:
        future.set_result(end.value)
        return future
    except BaseException as error:
        future.set_exception(error)
        future.exception()
        return future
    raise RuntimeError("a task that was begun cannot be handed over")


def _no_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
    coroutine.close()
    raise RuntimeError("no tasks here")


def calls_run_on_the_main_thread(subject: ExecutorSubject) -> None:
    executor, record = subject.make(1, {}), Record()
    with running(executor) as thread:
        executor.submit(Probe(record, is_async=subject.is_async))
        eventually(lambda: record.ended, "every call runs")
        expect_equal(record.threads, {thread.ident}, "calls of an executor that is not concurrent run on run's thread")


def calls_run_at_the_same_time(subject: ExecutorSubject) -> None:
    executor, record, gate = subject.make(4, {}), Record(), threading.Event()
    with running(executor, gate):
        for round_number in range(20):
            gate.clear()
            for number in range(4):
                executor.submit(Probe(record, str(number), gate=gate, is_async=subject.is_async))
            eventually(lambda: record.running == 4, "max_concurrency calls run at a time, again and again")
            gate.set()
            eventually(lambda n=round_number: len(record.ended) == 4 * (n + 1), "every call runs")  # type: ignore[misc]


def groups_have_limits_of_their_own(subject: ExecutorSubject) -> None:
    executor, gate = subject.make(1, {"io": 2, "one": 1}), threading.Event()
    records = {"io": Record(), "one": Record(), None: Record()}
    with running(executor, gate):
        for _ in range(5):
            for group, record in records.items():
                executor.submit(Probe(record, gate=gate, group=group, is_async=subject.is_async))
        for group, limit in (("io", 2), ("one", 1), (None, 1)):
            record = records[group]
            eventually(lambda r=record, n=limit: r.running == n, "each concurrency group fills its own limit")  # type: ignore[misc]
        gate.set()
        for record in records.values():
            eventually(lambda r=record: len(r.ended) == 5, "every group's calls run")  # type: ignore[misc]
    peaks = {group: record.peak for group, record in records.items()}
    expect_equal(peaks, {"io": 2, "one": 1, None: 1}, "each concurrency group keeps its own limit")


def a_loop_that_is_stopped_is_told(subject: ExecutorSubject) -> None:
    """Of executors of coroutine functions: their calls can end what all of them run on."""
    if not subject.is_async:
        return
    executor, record, raised = subject.make(1, {}), Record(), []

    def run() -> None:
        try:
            executor.run()
        except RuntimeError as error:
            raised.append(str(error))

    thread = threading.Thread(target=run, name="contract-executor", daemon=True)
    thread.start()
    executor.submit(Probe(record, then=lambda: asyncio.get_running_loop().stop(), is_async=True))
    thread.join(DEADLINE_S)
    executor.close()
    expect(not thread.is_alive(), "run returns when the user's code has stopped the loop")
    expect(raised != [], "run raises RuntimeError when the user's code has stopped the loop")


REQUIRED: tuple[Check, ...] = (
    calls_run_once_in_order,
    submit_never_blocks,
    concurrency_is_limited,
    idle_tells_whether_calls_wait,
    close_drops_what_is_queued,
    close_can_come_at_any_time,
    a_call_may_close_its_executor,
    every_call_is_answered,
    finished_calls_are_forgotten,
)

#: {value of ``Executor.concurrent``: what such an executor must do as well}
BY_CONCURRENCY: dict[bool, tuple[Check, ...]] = {
    False: (calls_run_on_the_main_thread,),
    True: (calls_run_at_the_same_time, groups_have_limits_of_their_own, a_loop_that_is_stopped_is_told),
}
