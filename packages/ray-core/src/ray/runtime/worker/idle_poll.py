"""What a serial worker's main thread does between calls: it polls by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.runtime.process.clean_signals import unblock_signals

if TYPE_CHECKING:
    from ray.abc.executor import Executor
    from ray.runtime.worker.worker import WorkerRuntime


class IdlePoll:
    """The last call in the queue of a serial executor, always; implements ``ray.abc.executor.Call``."""

    name = "idle"
    group: str | None = None
    is_async = in_thread = False

    def __init__(self, worker: WorkerRuntime, executor: Executor) -> None:
        self._worker = worker
        self._executor = executor

    def run(self) -> None:
        """Send what is unsent, then poll until a call arrives, and queue again behind it."""
        worker = self._worker
        with worker.lock:
            worker.replies.flush_all()
        if not worker.actor.id:
            unblock_signals()  # for short tasks; before others the worker does it
        if worker.polling.shareable:
            worker.polling.serve_while(self._idle)
            if not worker.life.left and worker.desk.executor is self._executor:
                self._executor.submit(self)

    def _idle(self) -> bool:
        worker = self._worker
        return not worker.life.left and worker.desk.executor is self._executor and worker.desk.executor.idle()

    def fail(self, error: Exception) -> None:
        """Never called: serial executors run every call."""

    async def run_async(self) -> None:
        """Never called: serial executors run calls on their thread."""
