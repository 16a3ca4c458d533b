"""The calls that a worker was sent and has not answered, and what runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray.ids import TASK_ID_BYTES
from ray.messages import wire
from ray.runtime.interface import STREAMING
from ray.runtime.worker.call import current_call
from ray.runtime.worker.closing import Closing
from ray.runtime.worker.yielding import yielding_of

if TYPE_CHECKING:
    from ray.abc.executor import Executor
    from ray.abc.transport import Frame
    from ray.protocol.references import ReferenceTable
    from ray.runtime.process.peers import Peer
    from ray.runtime.worker.call import TaskCall
    from ray.runtime.worker.life import Life


class Desk:
    """A call lies here from its push to its reply: queued, then running, and overdue if nobody waits for it any more.

    Moves of calls are made under the lock, except that the thread that runs a call claims it without.
    """

    __slots__ = (
        "_unpin", "call", "closing", "concurrent", "executor", "lessee", "lock", "next_executor", "overdue", "queued",
        "running", "started",
    )  # fmt: skip

    def __init__(self, lock: Any, table: ReferenceTable, life: Life, executor: Executor) -> None:
        self.lock = lock
        self._unpin = table.unpin
        #: {task id: call} that have not started
        self.queued: dict[bytes, TaskCall] = {}
        #: {task id: call} that run
        self.running: dict[bytes, TaskCall] = {}
        #: Calls that go on beyond their limits, or whose callers were lost; nobody waits for their results.
        self.overdue: set[TaskCall] = set()
        self.closing = Closing(self.queued, self.running, lambda: self.concurrent, lambda: bool(life.exiting))
        self.executor = executor
        #: Takes over on the main thread when ``executor`` is closed; None ends the process.
        self.next_executor: Executor | None = None
        #: Whether calls may overlap in this process.
        self.concurrent = False
        #: The call that runs on the main thread, unless they may.
        self.call: TaskCall | None = None
        #: Id of the task that was started last.
        self.started = bytes(TASK_ID_BYTES)
        #: The owner that holds the lease.
        self.lessee: Peer | None = None

    def run_by(self, executor: Executor) -> None:
        """From now on calls may overlap: another executor takes over, once the one that there is was closed."""
        self.concurrent = True
        self.executor = self.next_executor = executor

    # --- which call it is ---------------------------------------------------------------------------------------------

    def this_call(self) -> TaskCall | None:
        """The call that this thread runs. With or without the lock."""
        return current_call.get() if self.concurrent else self.call

    def oldest_call(self) -> TaskCall | None:
        """The call that runs, or the one of those that has begun first. With or without the lock."""
        if not self.concurrent:
            return self.call
        try:
            return next(iter(self.running.values()), None)
        except RuntimeError:  # calls come and go meanwhile: the next look tells
            return None

    def others(self, call: object) -> list[TaskCall]:
        """What runs here beside a call, those included that nobody waits for any more; under the lock."""
        return [other for other in [*self.running.values(), *self.overdue] if other is not call]

    # --- calls that are not to be answered from here; under the lock --------------------------------------------------

    def let_go(self, call: TaskCall) -> None:
        """The call needs the refs in its arguments no more."""
        if call.held:
            self._unpin(call.held)
            call.held = ()

    def supersede(self, id: bytes) -> None:
        """A call comes anew: what there is of it goes on without a caller, or does not start."""
        queued, running = self.queued.pop(id, None), self.running.pop(id, None)
        if queued is not None:
            self.let_go(queued)
        if running is not None:
            running.abandoned = True
            self.overdue.add(running)

    def take_back(self, peer: Peer) -> list[bytes]:
        """Ids of the peer's calls that have not started, and do not start here any more."""
        returned = []
        for id, call in list(self.queued.items()):  # some may begin meanwhile
            if call.peer is peer and self.queued.pop(id, None) is call:
                self.let_go(call)
                returned.append(id)
        return returned

    def return_queued(self, reason: str) -> None:
        """This actor ends: what has not started goes back to its callers."""
        returned: dict[Peer, list[bytes]] = {}
        for id, call in list(self.queued.items()):
            if self.queued.pop(id, None) is call:
                self.let_go(call)
                returned.setdefault(call.peer, []).append(id)
        for peer, ids in returned.items():
            peer.send(wire.Replies([], exiting=True, returned=ids, reason=reason))

    # --- streams; under the lock --------------------------------------------------------------------------------------

    def on_taken(self, peer: Peer, message: wire.Taken, frames: Sequence[Frame]) -> None:
        """The consumer of a stream has come so far."""
        call = self.queued.get(message.task) or self.running.get(message.task)  # it goes from here to there
        if call is not None and call.task.num_returns == STREAMING:
            yielding_of(call).taken(message.count)

    def peer_lost(self, peer: Peer) -> None:
        """A process is gone: calls of it that wait for it to consume what they yield are to look."""
        for call in list(self.running.values()):
            if call.peer is peer and call.stream is not None:
                call.stream.look()
