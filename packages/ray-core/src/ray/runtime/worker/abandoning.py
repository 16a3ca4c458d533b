"""What becomes of a call that goes on when its time is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.runtime.worker.process_end import end_process

if TYPE_CHECKING:
    from ray.runtime.worker.call import TaskCall
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.failing import Failing
    from ray.runtime.worker.life import Life
    from ray.runtime.worker.process_end import ProcessEnd
    from ray.runtime.worker.replies import Replies


class Abandoning:
    """Answers in the place of such a call."""

    def __init__(self, desk: Desk, replies: Replies, failing: Failing, life: Life, ending: ProcessEnd) -> None:
        self._desk = desk
        self._replies = replies
        self._failing = failing
        self._life = life
        self._ending = ending

    def give_up(self, call: TaskCall) -> None:
        """A call was interrupted in vain: answer without it; called under the lock."""
        desk, replies = self._desk, self._replies
        if desk.running.get(call.task.id) is not call:
            return
        del desk.running[call.task.id]
        call.abandoned = True
        replies.queue(call, self._failing.outcome_of(call, TimeoutError()), 0)
        if desk.concurrent:  # other callers' calls run here: it goes on until it ends, and keeps its place
            desk.overdue.add(call)
            replies.flush(call.peer)
            return
        self._life.exiting = "a task ran over its time and could not be interrupted"
        end_process(self._ending, 1)
