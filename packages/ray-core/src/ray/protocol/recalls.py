"""Tasks taken back from workers that do not get on: another worker may have them.

Owner and worker agree at each recall's end on what the worker holds: see ``ray.protocol.run_slot``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic, Protocol, TypeVar

from ray.protocol.run_slot import OpenRecall
from ray.protocol.task_effects import After, Effect, Insist, Recall
from ray.protocol.task_records import Lease, SchedulingClass, Task

#: A worker without a reply for this long gets no more tasks, and is asked to give back what it has not started.
STALL_S = 0.01
#: If it does not answer for this long, its interpreter is busy: a C call keeps it. The node manager sees to it then.
BUSY_S = 0.02

T = TypeVar("T", bound=Task)


class Leased(Protocol[T]):
    """The tasks of an owner, and the workers that it has leased for them."""

    #: {lease id: lease}
    leases: dict[bytes, Lease[T]]
    out: deque[Effect[T]]

    def take_back(self, lease: Lease[T], ids: Iterable[bytes]) -> None: ...
    def pump(self, cls: SchedulingClass[T], now: float) -> None: ...
    def became_idle(self, lease: Lease[T], now: float) -> None: ...


class Recalls(Generic[T]):
    """The recalls of an owner."""

    def __init__(self, tasks: Leased[T], new_id: Callable[[], bytes]) -> None:
        """Make one; ``new_id`` gives ids that nothing else has."""
        self._tasks = tasks
        self._new_id = new_id

    def watch(self, cls: SchedulingClass[T]) -> None:
        """A worker has tasks that wait there for another one: look in a moment whether it gets on."""
        if not cls.checking:
            cls.checking = True
            self._tasks.out.append(After(STALL_S, partial(self._look, cls)))

    def _look(self, cls: SchedulingClass[T], now: float) -> None:
        cls.checking = False
        limit = now - STALL_S
        waits = False
        for lease in list(cls.leases):
            if len(lease.inflight) > 1 and not (lease.recall or lease.blocked or lease.dead):
                if lease.progress <= limit:
                    self.start(lease)
                else:
                    waits = True
        if waits:
            self.watch(cls)

    def start(self, lease: Lease[T]) -> None:
        """Ask a worker to give back what it has not started; no effect if it was asked already."""
        if lease.recall is not None:
            return
        lease.stalled = True
        recall = lease.recall = OpenRecall(self._new_id(), lease.inflight)
        self._tasks.out.append(Recall(lease, recall))
        self._tasks.out.append(After(BUSY_S, partial(self._insist, lease, recall)))

    def _insist(self, lease: Lease[T], recall: OpenRecall, now: float) -> None:
        if lease.recall is recall and not (lease.dead or recall.asked):
            recall.asked = True
            self._tasks.out.append(Insist(lease, recall))

    def answered(self, lease: Lease[T], recall_id: bytes, now: float, *, settled: bool) -> None:
        """A worker has given back what it has not started; ``settled``: also what was revoked meanwhile."""
        recall = lease.recall
        if recall is not None and recall_id == recall.id:
            recall.answered = True
            recall.settled = settled
            self._settle(lease, recall, now)

    def in_force(self, lease_id: bytes, recall_id: bytes, running: bytes | None, now: float) -> None:
        """The node manager has put a recall in force while ``running`` ran; None: the worker had answered it."""
        lease = self._tasks.leases.get(lease_id)
        recall = lease.recall if lease is not None else None
        if lease is None or recall is None or recall.id != recall_id:
            return  # the worker has ended meanwhile
        recall.asked = False
        if running is not None:
            revoked = recall.put_in_force(running)
            for id in revoked:
                if id in lease.inflight:
                    lease.inflight[id].alone = True
            self._tasks.take_back(lease, revoked)
        self._settle(lease, recall, now)
        self._tasks.pump(lease.cls, now)

    def _settle(self, lease: Lease[T], recall: OpenRecall, now: float) -> None:
        if recall.ended:
            lease.recall = None
            if not lease.inflight and not lease.dead:
                self._tasks.became_idle(lease, now)
