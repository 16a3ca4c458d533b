"""What a serial worker's main thread does between calls: it polls by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.runtime.process.clean_signals import unblock_signals

if TYPE_CHECKING:
    from ray.abc.executor import Executor
    from ray.runtime.process.polling import Polling
    from ray.runtime.worker.actor_host import ActorHost
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.life import Life
    from ray.runtime.worker.replies import Replies


class IdlePoll:
    """The last call in the queue of a serial executor, always; implements ``ray.abc.executor.Call``."""

    name = "idle"
    group: str | None = None
    is_async = in_thread = False

    def __init__(
        self, desk: Desk, life: Life, actor: ActorHost, replies: Replies, polling: Polling, executor: Executor
    ) -> None:
        """Make one.

        Args:
            desk: the calls of the process.
            life: whether it goes on.
            actor: what it is.
            replies: what its calls came to.
            polling: of the process.
            executor: whose call this is.
        """
        self._desk = desk
        self._life = life
        self._actor = actor
        self._replies = replies
        self._polling = polling
        self._executor = executor

    def run(self) -> None:
        """Send what is unsent, then poll until a call arrives, and queue again behind it."""
        desk = self._desk
        with desk.lock:
            self._replies.flush_all()
        if not self._actor.id:
            unblock_signals()  # for short tasks; before others the worker does it
        if self._polling.shareable:
            self._polling.serve_while(self._idle)
            if not self._life.left and desk.executor is self._executor:
                self._executor.submit(self)

    def _idle(self) -> bool:
        executor = self._executor
        return not self._life.left and self._desk.executor is executor and executor.idle()

    def fail(self, error: Exception) -> None:
        """Never called: serial executors run every call."""

    async def run_async(self) -> None:
        """Never called: serial executors run calls on their thread."""
