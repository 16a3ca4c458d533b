"""How a call begins: on the thread that runs it, which may find that it is not to run any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ray.ids import TASK_ID_BYTES
from ray.protocol.run_slot import IN_FORCE
from ray.runtime.process.clean_signals import unblock_signals

if TYPE_CHECKING:
    from ray.protocol.run_slot import RunSlot
    from ray.runtime.worker.actor_host import ActorHost
    from ray.runtime.worker.call import TaskCall
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.gpus import Gpus
    from ray.runtime.worker.limits import Limits
    from ray.runtime.worker.replies import Replies


class Claiming:
    """Moves calls from the queue to those that run."""

    __slots__ = ("_actor", "_desk", "_gpus", "_limits", "_noted", "_refuse", "_replies", "_slot")

    def __init__(
        self,
        desk: Desk,
        actor: ActorHost,
        replies: Replies,
        slot: RunSlot,
        gpus: Gpus,
        limits: Limits,
        refuse: Callable[[TaskCall], None],
    ) -> None:
        """Make one.

        Args:
            desk: the calls of the process.
            actor: what the process is.
            replies: what calls before came to.
            slot: shared with the node manager.
            gpus: what the user's code sees of them.
            limits: of the time of calls.
            refuse: answers a call that was cancelled before it began; called under the lock.
        """
        self._desk = desk
        self._actor = actor
        self._replies = replies
        self._slot = slot
        #: It begins with the id of the task that was started last.
        self._noted = slot.memory
        self._gpus = gpus
        self._limits = limits
        self._refuse = refuse

    def begin(self, call: TaskCall) -> bool:
        """Claim a call that is about to run; False if it was given back or cancelled meanwhile."""
        task, desk, replies = call.task, self._desk, self._replies
        queued, running, id = desk.queued, desk.running, task.id
        if (replies.long_ended or task.function not in replies.brief) and id in queued:
            replies.secure()  # it may take long, or the process along
            if not self._actor.id:
                unblock_signals()  # what the user's code has blocked was for the task that did it
        running[id] = call  # at every moment in one of the two, so that no cancel misses it
        if queued.get(id) is not call:  # it was given back, and may have come again as another call
            del running[id]
            return False
        noted = self._noted
        noted[:TASK_ID_BYTES] = id  # before the look at recalls: see ``RunSlot``
        if noted[IN_FORCE] and not self._slot.may_start(id):
            revoked = queued.pop(id, None)
            if revoked is not None and task.actor:
                with desk.lock:
                    self._refuse(revoked)
        if queued.pop(id, None) is None:
            noted[:TASK_ID_BYTES] = desk.started
            del running[id]
            with desk.lock:
                desk.let_go(call)
            return False
        desk.started = id
        if not desk.concurrent:
            desk.call = call
        gpus = self._gpus
        if call.gpu_ids is not gpus.ids and call.gpu_ids != gpus.ids and not self._actor.id:
            gpus.show(call.gpu_ids)
        if task.timeout_s:
            self._limits.begin(call)
        return True
