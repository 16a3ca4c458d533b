"""The executor of async actors: every call is a task of one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from ray.abc import Call, Executor
from ray.clock import new_event_loop
from ray_async.ending import wind_up
from ray_async.ready_flag import ReadyFlag

LoopMaker: TypeAlias = Callable[[], asyncio.AbstractEventLoop]

#: Calls started in one turn of the loop: what is due besides need not wait for thousands.
STARTS_PER_TURN = 100
#: What is left on the loop when the last call has ended is cancelled, and has this long to end.
WIND_UP_S = 0.5
#: Whose code a loop consists of.
_LOOPS = ("asyncio", "contextvars", "selectors", "uvloop")
_STEPPED = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR | inspect.CO_ITERABLE_COROUTINE


class AsyncioExecutor(Executor):
    """Up to ``max_concurrency`` calls at a time, interleaved on the loop, and as many more per concurrency group.

    Within the default group and within each named one, calls start in the order of ``submit``. The loop runs on the
    thread of ``run``. Calls that are no coroutine functions run on it too, or on threads beside it if they, or
    ``sync_in_threads``, ask for that. Where there are concurrency groups all of them do, or they would hold up other
    groups: those of the default group one at a time, as on the loop.
    """

    name = "asyncio"
    concurrent = True

    def __init__(
        self,
        max_concurrency: int,
        concurrency_groups: Mapping[str, int] | None = None,
        *,
        new_loop: LoopMaker = new_event_loop,
        sync_in_threads: bool = False,
    ) -> None:
        """Make an executor; ``run`` makes the loop.

        Args:
            max_concurrency: calls of the default group at a time, at least 1.
            concurrency_groups: calls of each named group at a time, at least 1. Calls that name another group belong
                to the default group.
            new_loop: makes the event loop.
            sync_in_threads: run what is no coroutine function on a thread, so that it does not hold up the loop.
        """
        limits: dict[str | None, int] = {None: max_concurrency}
        limits.update(concurrency_groups or {})
        for group, limit in limits.items():
            if limit < 1:
                raise ValueError(f"concurrency of {f'group {group!r}' if group else 'an actor'} must be at least 1")
        #: {group name, or None for the default group: its lane}
        self._lanes = {group: _Lane(limit) for group, limit in limits.items()}
        self._default = self._lanes[None]
        self._new_loop = new_loop
        self._sync_in_threads = sync_in_threads
        self._sync_beside_loop = sync_in_threads or bool(concurrency_groups)
        #: Start no thread before they need one.
        self._threads = ThreadPoolExecutor(sum(limits.values()), "ray-call")
        self._one_thread = ThreadPoolExecutor(1, "ray-plain-call")
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Taken over by the loop in one go.
        self._submitted: deque[Call] = deque()
        #: Wakes the loop, at less cost than ``call_soon_threadsafe``; made by ``run``.
        self._flag: ReadyFlag | None = None
        #: The loop is about to look into ``_submitted``; before ``run``, it will when it starts.
        self._woken = True
        #: {call: its lane} of those whose tasks have not had their first step.
        self._unstarted: dict[Call, _Lane] = {}
        #: Every task that has not ended; the loop itself would let go of them.
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._closed = False

    def submit(self, call: Call) -> None:
        if self._closed:
            return
        self._submitted.append(call)
        if not self._woken:
            self._woken = True
            self._wake()

    def _wake(self) -> None:
        """Have the loop look; without effect where it has ended, or has not begun."""
        flag, loop = self._flag, self._loop
        if flag is None or loop is None:
            return
        try:
            flag.set()
        except OSError:  # the program has closed every descriptor that it found
            with contextlib.suppress(RuntimeError):  # so is the loop
                loop.call_soon_threadsafe(self._look, flag, context=contextvars.Context())

    # --- on the loop --------------------------------------------------------------------------------------------------

    def _look(self, flag: ReadyFlag) -> None:
        """A thread has set the flag."""
        flag.clear()
        self._take()
        if self._closed:
            self._stop()

    def _take(self) -> None:
        submitted = self._submitted
        self._woken = False  # first, so that nothing submitted from now on is overlooked
        for _ in range(min(len(submitted), STARTS_PER_TURN)):
            try:
                call = submitted.popleft()
            except IndexError:  # closed meanwhile
                return
            lane = self._lanes.get(call.group, self._default)
            if lane.running < lane.limit:
                self._start(call, lane)
            else:
                lane.queue.append(call)
                self._waiting += 1
        if submitted and not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._take)

    def _start(self, call: Call, lane: _Lane) -> None:
        assert self._loop is not None
        lane.running += 1
        # Not by the loop's factory, which is the user's: it may run the task at once, or refuse.
        task = asyncio.Task(self._run(call), loop=self._loop, context=contextvars.Context())
        self._unstarted[call] = lane
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._ended, call, lane))

    async def _run(self, call: Call) -> None:
        del self._unstarted[call]
        try:
            if call.in_thread:
                await self._run_on(self._threads, call)
            elif self._sync_beside_loop and not call.is_async:
                serial = not self._sync_in_threads and self._lanes.get(call.group) in (None, self._default)
                await self._run_on(self._one_thread if serial else self._threads, call)
            else:
                await call.run_async()
        except Exception as error:
            call.fail(error)

    async def _run_on(self, threads: ThreadPoolExecutor, call: Call) -> None:
        """Run a call on a thread; it cannot be cancelled there, though this task can."""
        done: Future[None] = Future()
        try:
            threads.submit(_run_once, call, done)
        except RuntimeError:  # no thread could be started for it, but it is queued: one that there is may have it
            if done.cancel():
                raise
        running = asyncio.wrap_future(done, loop=self._loop)
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        running.result()

    def _ended(self, call: Call, lane: _Lane, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        lane.running -= 1
        if call in self._unstarted:  # cancelled by code that cancels every task: the caller still waits for an answer
            self._start(call, lane)
        elif lane.queue and not self._closed:
            self._waiting -= 1
            self._start(lane.queue.popleft(), lane)
        if self._closed and not self._tasks:
            self._stop()

    def _stop(self) -> None:
        if not self._tasks and self._loop is not None:
            self._loop.stop()

    # --- from the outside ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        loop = self._loop = self._new_loop()
        asyncio.set_event_loop(loop)
        flag = self._flag = ReadyFlag()
        try:
            if not self._closed:  # else nobody would stop it
                loop.add_reader(flag.fileno(), self._look, flag)
                loop.call_soon(self._take)
                self._serve(loop)
                loop.remove_reader(flag.fileno())
                loop.set_task_factory(None)
                loop.run_until_complete(wind_up(WIND_UP_S))
        finally:
            asyncio.set_event_loop(None)
            for threads in (self._threads, self._one_thread):
                threads.shutdown(wait=False, cancel_futures=True)
            loop.close()
            flag.close()

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            try:
                loop.run_forever()
            except (KeyboardInterrupt, SystemExit) as error:
                # A task keeps it for the code that awaits that task.
                if isinstance(error, SystemExit) and not _comes_from_task(error):
                    raise RuntimeError(f"a callback of its event loop called sys.exit({error.code!r})") from error
                continue
            if not self._closed:
                raise RuntimeError("its event loop was stopped")
            return

    def idle(self) -> bool:
        return self._closed or not (self._submitted or self._unstarted or self._waiting)

    def close(self) -> None:
        self._closed = True
        self._submitted.clear()
        self._wake()


def _run_once(call: Call, done: Future[None]) -> None:
    if done.set_running_or_notify_cancel():
        try:
            call.run()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)


def _comes_from_task(error: BaseException) -> bool:
    """Whether the first code outside the loop's own is that of a coroutine or generator, and not of a callback."""
    trace = error.__traceback__
    while trace is not None:
        code, module = trace.tb_frame.f_code, trace.tb_frame.f_globals.get("__name__", "")
        if not (module == __name__ or module.partition(".")[0] in _LOOPS):
            return bool(code.co_flags & _STEPPED)
        trace = trace.tb_next
    return False


class _Lane:
    """One concurrency group: how many of its calls run, and those that wait for one of them to end."""

    __slots__ = ("limit", "queue", "running")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.queue: deque[Call] = deque()
