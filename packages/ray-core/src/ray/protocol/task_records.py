"""What the table of tasks keeps: scheduling classes, with a queue each, and leases. Nothing here knows of a process."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

from ray.messages.node import ExitCause
from ray.messages.placement import Placement
from ray.protocol.run_slot import OpenRecall
from ray.protocol.run_time import RunTime

#: A class may keep its workers busy for this long while another one of the same owner has none.
SLICE_S = 0.3


class Function(Protocol):
    """What a task runs."""

    @property
    def time(self) -> RunTime: ...


class Task(Protocol):
    """What the table knows of a task."""

    #: The scheduling class in whose queue the task is, or the lease whose worker it was pushed to. Only to be read.
    place: object
    #: Executions that have ended without an outcome.
    attempt: int
    #: Executions that may still follow; negative: as many as it takes.
    retries: int
    #: The task was revoked once, perhaps while it was on its way. It is pushed with none before or behind it, so that
    #: it arrives however long that takes.
    alone: bool

    @property
    def id(self) -> bytes: ...
    @property
    def export(self) -> Function | None: ...
    @property
    def done(self) -> bool: ...
    @property
    def cancelled(self) -> bool: ...


T = TypeVar("T", bound=Task)


class SchedulingClass(Generic[T]):
    """Tasks with the same needs: one queue, and the leases that serve it."""

    __slots__ = (
        "checking", "demanded", "depth", "lack", "leases", "near", "number", "paused", "placement", "priority",
        "queue", "resources", "resting",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        resources: Mapping[str, int],
        priority: int,
        depth: int,
        placement: Placement | None = None,
        near: bytes = b"",
    ) -> None:
        #: Messages name the class by it.
        self.number = number
        #: In ten-thousandths of a unit.
        self.resources = dict(resources)
        self.priority = priority
        #: Where they may run.
        self.placement = placement
        #: Number of the node that has most of what they take as arguments; empty: none has.
        self.near = near
        #: Of the tasks that have submitted these, in the tree of tasks.
        self.depth = depth
        self.queue: deque[T] = deque()
        #: {task id: task} of those that have failed and wait for their next attempt.
        self.resting: dict[bytes, T] = {}
        self.leases: list[Lease[T]] = []
        #: Workers asked for and not granted yet.
        self.demanded = 0
        #: No worker is asked for, for a while.
        self.paused = False
        #: What was asked for is more than any node has: says so in a predicate, else empty.
        self.lack = ""
        #: A check for work to take back from stalled workers is due.
        self.checking = False

    def open_leases(self) -> list[Lease[T]]:
        """Those that are open."""
        return [
            lease
            for lease in self.leases
            if lease.ready  # in place of a call of ``is_open`` for each
            and not (lease.blocked or lease.revoked or lease.recall or lease.dead)
            and not (lease.stalled and lease.inflight)
        ]

    def waits(self) -> bool:
        """Whether any of its tasks has no worker."""
        return bool(self.queue or self.resting)

    def precedes(self, lease: Lease[T], now: float) -> bool:
        """Whether this class, which has no worker, should have that of ``lease`` when what it runs has ended."""
        other = lease.cls
        same = self.resources == other.resources and self.placement == other.placement
        if self.priority > other.priority and same:
            return True
        return self is not other and self.priority >= other.priority and now - lease.granted > SLICE_S


class Lease(Generic[T]):
    """A leased worker, from the owner's side."""

    __slots__ = (
        "batch", "blocked", "cause", "cls", "dead", "granted", "id", "idle_since", "inflight", "progress", "ready",
        "recall", "revoked", "stalled", "wanted",
    )  # fmt: skip

    def __init__(self, id: bytes, cls: SchedulingClass[T], now: float) -> None:
        self.id = id
        self.cls = cls
        #: {task id: task} in the order of pushing
        self.inflight: dict[bytes, T] = {}
        #: {task id: task} of those in flight that are about to be sent together.
        self.batch: dict[bytes, T] = {}
        #: The worker has been reached.
        self.ready = False
        #: The worker's running task waits for others.
        self.blocked = False
        #: The node manager wants the worker back: it gets no more tasks.
        self.revoked = False
        #: Others wait for the worker.
        self.wanted = False
        #: The worker was asked to give back what it has not started: it gets nothing until it has answered.
        self.recall: OpenRecall | None = None
        #: The worker was asked so, and has not replied since: what it gives back is not for it.
        self.stalled = False
        #: Nothing is pushed any more: the lease was released, or the connection to the worker is lost.
        self.dead = False
        #: How the worker ended, while its last replies are still to be read.
        self.cause: ExitCause | None = None
        #: Time of the grant.
        self.granted = now
        self.idle_since = 0.0
        #: Time of the last reply, or of the first push after it.
        self.progress = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the worker may get tasks."""
        return (
            self.ready
            and not (self.blocked or self.revoked or self.recall or self.dead)
            and not (self.stalled and self.inflight)
        )

    @property
    def is_idle(self) -> bool:
        """Whether it could be released."""
        return self.ready and not (self.inflight or self.blocked or self.recall or self.dead)

    def ended(self, id: bytes) -> T | None:
        """The worker reports the end of a task. Returns the task, if it is still the worker's."""
        return self.inflight.pop(id, None)

    def back(self, task: T) -> None:
        """What was reported of a task was none of its ends."""
        self.inflight[task.id] = task

    def room(self) -> int:
        """How many more tasks may wait behind those that it has: none behind one that may take long."""
        try:
            last = self.inflight[next(reversed(self.inflight))]
        except (KeyError, RuntimeError, StopIteration):  # a call that has interrupted this one has ended some
            return 1 - len(self.inflight)
        export = last.export
        return (export.time.pipeline() if export is not None and not last.alone else 1) - len(self.inflight)

    def started(self, running: bytes, *, died: bool = False) -> int:
        """How many of ``inflight`` the worker has started, ``running`` last; if that is not known, it may be all.

        A dead worker may have looked at one more task, which it was not to start any more.
        """
        if died and self.recall is not None and self.recall.exempt and running not in self.inflight:
            running = self.recall.exempt
        for index, id in enumerate(self.inflight, 1):
            if id == running:
                return index
        return 0 if running else len(self.inflight)
