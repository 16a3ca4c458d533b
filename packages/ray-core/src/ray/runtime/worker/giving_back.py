"""What a worker was sent and has not started goes back to its owner."""

from __future__ import annotations

import threading
from _thread import get_ident
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ray.abc.transport import Frame
from ray.clock import sleep
from ray.messages import wire
from ray.runtime.process.peers import Peer
from ray.runtime.process.polling import PAUSE_S

if TYPE_CHECKING:
    from ray.protocol.run_slot import RunSlot
    from ray.runtime.worker.call import TaskCall

#: How often to look whether the main thread has decided about a task; it takes microseconds.
DECIDING_POLLS = 10_000


class Sent(Protocol):
    """What a worker was sent, and by whom."""

    #: {task id: call} that have not started, and that run.
    queued: dict[bytes, TaskCall]
    running: dict[bytes, TaskCall]
    #: Id of the task that was started last.
    started: bytes
    #: How many threads and loops of it wait.
    blocked: int
    #: The owner that holds the lease.
    lessee: Peer | None

    def flush(self, peer: Peer) -> None: ...
    def let_go(self, call: TaskCall) -> None: ...


class GivingBack:
    """Called under the runtime's lock."""

    def __init__(self, worker: Sent, slot: RunSlot) -> None:
        self._worker = worker
        self._slot = slot

    def on_recall(self, peer: Peer, message: wire.Recall, frames: Sequence[Frame]) -> None:
        """The owner wants back what has not started, except what is about to.

        A recall may arrive together with the tasks, when they are large: were all given back, they would go to and fro
        for ever. The node manager may have put it in force meanwhile: the owner has all then but one.
        """
        worker = self._worker
        about_to = 0 if worker.running.keys() - worker.queued.keys() else 1
        blocked = worker.blocked > 0
        self.give_back(blocked=blocked, keep=about_to, recall=message.id)
        exempt = self._slot.handled(message.id)
        if exempt is not None:
            for task_id in [id for id in list(worker.queued) if id != exempt]:
                self._drop(task_id)
            self._await_decision()
            self._slot.settled()
            peer.send(wire.Returned([], blocked, message.id, True))

    def give_back(self, *, blocked: bool, keep: int = 0, recall: bytes = b"") -> None:
        """Return unstarted tasks, but the first ``keep``, to their owners; say whether this worker is blocked."""
        worker = self._worker
        returned: dict[Peer, list[bytes]] = {}
        if worker.lessee is not None:
            returned[worker.lessee] = []
        for task_id in list(worker.queued)[keep:]:
            call = self._drop(task_id)
            if call is not None:
                returned.setdefault(call.peer, []).append(task_id)
        self._await_decision()
        for peer, tasks in returned.items():
            worker.flush(peer)
            peer.send(wire.Returned(tasks, blocked, recall))

    def _drop(self, task_id: bytes) -> TaskCall | None:
        """Forget a task that has not started, if there is such a one."""
        call = self._worker.queued.pop(task_id, None)
        if call is not None:
            self._worker.let_go(call)
        return call

    def _await_decision(self) -> None:
        """The main thread may be about to find that it is not to start a task: it has noted it, for an instant."""
        worker = self._worker
        if get_ident() != threading.main_thread().ident:
            for _ in range(DECIDING_POLLS):
                if all(task_id == worker.started for task_id in list(worker.running)):
                    return
                sleep(PAUSE_S)
