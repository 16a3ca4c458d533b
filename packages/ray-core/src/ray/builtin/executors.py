"""Executors for ordinary workers and actors (``serial``) and for threaded actors (``threads``)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from queue import SimpleQueue

from ray.abc.executor import Call, Executor
from ray.threads import Flag, UnawaitedThread


class SerialExecutor(Executor):
    """One call at a time, in order, on the process's main thread."""

    name = "serial"

    def __init__(self) -> None:
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._closed = False

    def submit(self, call: Call) -> None:
        if not self._closed:
            self._queue.put(call)

    def run(self) -> None:
        get = self._queue.get
        while True:
            call = get()
            if call is None or self._closed:
                return
            call.run()
            del call  # it holds arguments, and the next one may be long in coming

    def idle(self) -> bool:
        return self._closed or self._queue.empty()

    def close(self) -> None:
        self._closed = True
        self._queue.put(None)


class ThreadsExecutor(Executor):
    """Up to ``max_concurrency`` calls at a time, and as many more per concurrency group as it allows.

    Within the default group and within each named one, calls start in the order of ``submit``. Threads are started when
    they are first needed, and are daemons: a call that never ends cannot keep a process alive that wants to end.
    """

    name = "threads"
    concurrent = True

    def __init__(self, max_concurrency: int, concurrency_groups: Mapping[str, int] | None = None) -> None:
        """Make an executor.

        Args:
            max_concurrency: threads of the default group, at least 1.
            concurrency_groups: threads of each named group, at least 1. Calls that name another group belong to the
                default group.
        """
        limits: dict[str | None, int] = {None: max_concurrency}
        limits.update(concurrency_groups or {})
        for group, limit in limits.items():
            if limit < 1:
                raise ValueError(f"concurrency of {f'group {group!r}' if group else 'an actor'} must be at least 1")
        #: {group name, or None for the default group: its lane}
        self._lanes: dict[str | None, _Lane] = {group: _Lane(self, group, limit) for group, limit in limits.items()}
        self._default = self._lanes[None]
        self._closed = False
        self._done = Flag()

    def submit(self, call: Call) -> None:
        if not self._closed:
            self._lanes.get(call.group, self._default).submit(call)

    def run(self) -> None:
        self._done.wait()
        for lane in self._lanes.values():
            lane.join()

    def idle(self) -> bool:
        return self._closed or all(lane.queue.empty() for lane in self._lanes.values())

    def close(self) -> None:
        self._closed = True
        for lane in self._lanes.values():
            lane.close()
        self._done.set()


class _Lane:
    """One concurrency group: a queue and the threads that serve it."""

    def __init__(self, executor: ThreadsExecutor, group: str | None, limit: int) -> None:
        self.queue: SimpleQueue[Call | None] = SimpleQueue()
        self._executor = executor
        self._name = f"ray-call-{group}" if group else "ray-call"
        self._limit = limit
        # Re-entrant: a destructor may call close() on the thread that holds it.
        self._lock = threading.RLock()
        self._threads: list[threading.Thread] = []
        #: Threads that wait, less the calls queued for them. Means nothing once all threads are started.
        self._waiting = 0

    def submit(self, call: Call) -> None:
        self.queue.put(call)
        if len(self._threads) >= self._limit:
            return
        with self._lock:
            if self._waiting > 0:
                self._waiting -= 1
            elif len(self._threads) < self._limit and not self._executor._closed:
                thread = UnawaitedThread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the system gives no more threads: those that there are have to do
                    if self._threads:
                        self._waiting -= 1
                    else:
                        self.queue.get().fail(error)  # type: ignore[union-attr]
                else:
                    self._threads.append(thread)

    def _serve(self) -> None:
        while True:
            call = self.queue.get()
            if call is None or self._executor._closed:
                return
            call.run()
            del call
            if len(self._threads) < self._limit:
                with self._lock:
                    self._waiting += 1

    def close(self) -> None:
        with self._lock:
            for _ in self._threads:
                self.queue.put(None)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
