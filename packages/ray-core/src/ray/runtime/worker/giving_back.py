"""What a worker was sent and has not started goes back to its owner."""

from __future__ import annotations

import threading
from _thread import get_ident
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ray.abc.transport import Frame
from ray.clock import sleep
from ray.messages import wire
from ray.runtime.process.peers import Peer
from ray.runtime.process.polling import PAUSE_S

if TYPE_CHECKING:
    from ray.protocol.run_slot import RunSlot
    from ray.runtime.worker.call import TaskCall
    from ray.runtime.worker.desk import Desk

#: How often to look whether the main thread has decided about a task; it takes microseconds.
DECIDING_POLLS = 10_000


class GivingBack:
    """Called under the runtime's lock."""

    def __init__(
        self, desk: Desk, slot: RunSlot, flush: Callable[[Peer], None], is_blocked: Callable[[], bool]
    ) -> None:
        """Make one.

        Args:
            desk: of the process.
            slot: shared with the node manager.
            flush: sends what is queued for an owner.
            is_blocked: whether threads or loops of this worker wait.
        """
        self._desk = desk
        self._slot = slot
        self._flush = flush
        self._is_blocked = is_blocked

    def on_recall(self, peer: Peer, message: wire.Recall, frames: Sequence[Frame]) -> None:
        """The owner wants back what has not started, except what is about to.

        A recall may arrive together with the tasks, when they are large: were all given back, they would go to and fro
        for ever. The node manager may have put it in force meanwhile: the owner has all then but one.
        """
        desk = self._desk
        about_to = 0 if desk.running.keys() - desk.queued.keys() else 1
        blocked = self._is_blocked()
        self.give_back(blocked=blocked, keep=about_to, recall=message.id)
        exempt = self._slot.handled(message.id)
        if exempt is not None:
            for task_id in [id for id in list(desk.queued) if id != exempt]:
                self._drop(task_id)
            self._await_decision()
            self._slot.settled()
            peer.send(wire.Returned([], blocked, message.id, True))

    def give_back(self, *, blocked: bool, keep: int = 0, recall: bytes = b"") -> None:
        """Return unstarted tasks, but the first ``keep``, to their owners; say whether this worker is blocked."""
        desk = self._desk
        returned: dict[Peer, list[bytes]] = {}
        if desk.lessee is not None:
            returned[desk.lessee] = []
        for task_id in list(desk.queued)[keep:]:
            call = self._drop(task_id)
            if call is not None:
                returned.setdefault(call.peer, []).append(task_id)
        self._await_decision()
        for peer, tasks in returned.items():
            self._flush(peer)
            peer.send(wire.Returned(tasks, blocked, recall))

    def _drop(self, task_id: bytes) -> TaskCall | None:
        """Forget a task that has not started, if there is such a one."""
        call = self._desk.queued.pop(task_id, None)
        if call is not None:
            self._desk.let_go(call)
        return call

    def _await_decision(self) -> None:
        """The main thread may be about to find that it is not to start a task: it has noted it, for an instant."""
        desk = self._desk
        if get_ident() != threading.main_thread().ident:
            for _ in range(DECIDING_POLLS):
                if all(task_id == desk.started for task_id in list(desk.running)):
                    return
                sleep(PAUSE_S)
