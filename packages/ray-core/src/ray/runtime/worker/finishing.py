"""How a call ends: on the thread that has run it, once what it came to is known."""

from __future__ import annotations

from _signal import SIGINT, getsignal  # type: ignore[import-not-found]  # that of ``signal`` takes as long as a task
from _signal import signal as set_handler  # ours needs no guard
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.runtime.worker.actor_host import ActorHost
    from ray.runtime.worker.call import TaskCall
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.life import Life
    from ray.runtime.worker.limits import Limits
    from ray.runtime.worker.outcome import Outcome
    from ray.runtime.worker.replies import Replies
    from ray.runtime.worker.streams import Flusher


class Finishing:
    """Has calls answered, and the process as the next one is to find it."""

    __slots__ = ("_actor", "_desk", "_handler", "_leave", "_life", "_limits", "_output", "_replies")

    def __init__(
        self,
        desk: Desk,
        actor: ActorHost,
        life: Life,
        replies: Replies,
        limits: Limits,
        output: Flusher,
        handler: Any,
        leave: Callable[[], None],
    ) -> None:
        """Make one.

        Args:
            desk: the calls of the process.
            actor: what the process is.
            life: whether it goes on.
            replies: what calls came to.
            limits: of the time of calls.
            output: what they have printed.
            handler: of SIGINT, as Python hands it back.
            leave: called when the last call of the process has ended.
        """
        self._desk = desk
        self._actor = actor
        self._life = life
        self._replies = replies
        self._limits = limits
        self._output = output
        self._handler = handler
        self._leave = leave

    def end(self, call: TaskCall, outcome: Outcome, duration_us: int) -> None:
        """A call has ended: queue its reply, and send the queue when that is worth it."""
        task, desk, life = call.task, self._desk, self._life
        if task.timeout_s:
            self._limits.end(call)  # the user's code has ended: it is not to blame for a slow reader of what it printed
        if call.cancelled or call.timed_out:
            self._output.try_flush()
        else:
            self._output.flush()  # before the reply, and under the name of this call
        if not desk.concurrent:
            desk.call = None
            if getsignal(SIGINT) is not self._handler and not self._actor.id:
                set_handler(SIGINT, self._handler)  # the user's was for this task
        if task.max_calls and not (life.exiting or self._actor.id):
            life.executed(task.function, task.max_calls)
        with desk.lock:
            if call.abandoned:
                desk.overdue.discard(call)
                self._replies.drop(call, outcome)
            else:
                del desk.running[task.id]
                self._replies.reply(call, outcome, duration_us)
        if life.exiting:
            self._leave()
