"""Cancels of what a worker has, or runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ray.exceptions import TaskCancelledError
from ray.messages import wire
from ray.runtime.worker.outcome import Outcome

if TYPE_CHECKING:
    from ray.abc.transport import Frame
    from ray.protocol.run_slot import RunSlot
    from ray.runtime.owner.cancelling import Cancelling
    from ray.runtime.owner.reports import Reports
    from ray.runtime.process.peers import Peer
    from ray.runtime.worker.call import TaskCall
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.interrupting import Interrupting
    from ray.runtime.worker.replies import Replies


class Cancellations:
    """Called under the lock."""

    def __init__(
        self,
        desk: Desk,
        slot: RunSlot,
        replies: Replies,
        reports: Reports,
        interrupting: Interrupting,
        cancelling: Cancelling,
        name_of: Callable[[wire.Task], str],
    ) -> None:
        """Make one.

        Args:
            desk: the calls of the process.
            slot: shared with the node manager.
            replies: what the calls came to.
            reports: makes envelopes.
            interrupting: interrupts calls that run.
            cancelling: cancels what they have submitted.
            name_of: what messages call a task.
        """
        self._desk = desk
        self._slot = slot
        self._replies = replies
        self._reports = reports
        self._interrupting = interrupting
        self._cancelling = cancelling
        self._name_of = name_of

    def on_cancel(self, peer: Peer, message: wire.Cancel, frames: Sequence[Frame]) -> None:
        """Cancel a task that is queued or running here; one that has ended is left alone."""
        desk = self._desk
        call = desk.queued.pop(message.task, None)
        self._slot.forget_call(message.task)
        if call is not None:
            self.refuse(call)
            return
        call = desk.running.get(message.task)
        if call is not None:
            if not call.cancelled:
                call.cancelled = True
                self._slot.heard(message.task)
                self._replies.flush_all()  # what has ended before must not be lost if the process is killed
                self._interrupting.insist(call)  # before its children fail, which would interrupt it as well
            elif message.again and call.coroutine is None:
                call.noticed = False  # unless it cleans up still
                self._interrupting.insist(call, anew=True)
            call.recursive = call.recursive or message.recursive
        if message.recursive:
            self._cancelling.cancel_children(message.task)

    def refuse(self, call: TaskCall) -> None:
        """A call was cancelled before it began."""
        task = call.task
        error = TaskCancelledError(task.name or self._name_of(task), task.id)
        envelope = self._reports.envelope(error, call.name, task.id, task.attempt)
        self._replies.queue(call, Outcome(False, [envelope]), 0)
        self._replies.flush(call.peer)
