"""What an owner keeps about its unfinished work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ray.clock import monotonic
from ray.ids import FIRST_RETURN
from ray.messages import codec, wire
from ray.protocol.references import STORED, ObjectEntry
from ray.runtime.owner.handed_refs import describe
from ray.runtime.owner.resuming import resume

if TYPE_CHECKING:
    from ray.messages.node import ExitCause
    from ray.protocol.run_slot import OpenRecall
    from ray.runtime.interface import TaskOptions
    from ray.runtime.owner.captured import Captured
    from ray.runtime.process.peers import Peer
    from ray.runtime.refs.generator import Stream

#: Work pushed ahead to one worker, in microseconds of expected run time …
PIPELINE_US = 5_000
#: … and in tasks.
PIPELINE_TASKS = 512
#: Tasks shorter than this are pushed in batches rather than one by one.
SHORT_US = 200
BATCH_TASKS = 32
#: … while a worker has at least this many ahead.
AHEAD_TASKS = 16
#: What a dead process has said is still read for at most this long, when its death is reported before that.
LAST_WORDS_S = 0.25
#: A class may keep its workers busy for this long while another one of the same owner has none.
SLICE_S = 0.3
#: One run counts at most this much more than the mean so far: a preempted one says nothing about the next.
_GROWTH = 2.0


class Export:
    """A function or class, pickled once per session. ``mean_us``: moving mean of its run time, < 0 before the first."""

    __slots__ = ("captured", "data", "hash", "here", "mean_us", "name", "place", "refs")

    def __init__(self, here: object, hash: bytes, data: bytes, name: str, refs: list[Any]) -> None:
        #: What the session is known by that it is for.
        self.here = here
        self.hash = hash
        self.data = data
        self.name = name
        #: Keeps what the closure refers to.
        self.refs = refs
        self.mean_us = -1.0
        #: Variables that came along and may change here.
        self.captured: Captured | None = None
        #: What ``SchedulingClasses.find`` has said of the options that it was called with last.
        self.place: tuple[TaskOptions, SchedulingClass, bool] | None = None

    def observe(self, duration_us: int) -> None:
        """Take one more run into the mean."""
        mean = self.mean_us
        if mean < 0:
            self.mean_us = float(duration_us)
        else:
            most_us = mean * _GROWTH + 1.0
            self.mean_us = mean + (duration_us - mean if duration_us < most_us else most_us - mean) * 0.125

    def pipeline(self) -> int:
        """How many tasks one worker may have at a time: one until the run time is known, few when they are long."""
        mean = self.mean_us
        if mean < 0:
            return 1
        if mean * PIPELINE_TASKS <= PIPELINE_US:
            return PIPELINE_TASKS
        return max(1, int(PIPELINE_US / mean))


#: A list that nobody changes.
_NONE: list[Any] = []


def _none() -> None:
    """No stream."""


class TaskRecord:
    """A task or actor call from submission to completion; kept whole for retries."""

    __slots__ = (
        "actor", "alone", "args", "asked", "attempt", "cancelled", "crash", "deps", "done", "entries", "export",
        "group", "id", "label", "link", "method", "name", "num_returns", "options", "parent", "pins", "refs", "retries",
        "stored", "stream", "streamed", "timeout_s", "waiting", "warned",
    )  # fmt: skip

    #: How its process has died, if that has happened; else there is none.
    crash: str
    #: A failure is asked for, though nobody waits for it any more; else there is none.
    asked: bool

    def __init__(
        self, id: bytes, name: str, args: bytes, num_returns: int, retries: int, timeout_s: float | None
    ) -> None:
        self.id = id
        #: As messages call it.
        self.name = name
        #: The name that the user has given this one, if any.
        self.label = ""
        self.args: Any = args
        #: Id of the object that holds the arguments, where they are large and the store is shared.
        self.stored = b""
        self.num_returns = num_returns
        self.retries = retries
        self.timeout_s = timeout_s
        self.attempt = 0
        #: It was revoked once, perhaps while it was on its way: it is sent with none before or behind it, so that
        #: it arrives however long that takes.
        self.alone = False
        #: The submitting process's own refs to the returns.
        self.entries: tuple[ObjectEntry, ...] = ()
        #: [(position or keyword, entry)] of arguments that were refs
        self.deps: list[tuple[int | str, ObjectEntry]] = []
        #: Entries of refs inside the arguments.
        self.refs: tuple[ObjectEntry, ...] = ()
        #: Everything held until the end.
        self.pins: tuple[ObjectEntry, ...] = ()
        #: Dependencies that are not complete.
        self.waiting = 0
        self.export: Export | None = None
        self.options: Any = None
        self.link: Any = None
        self.parent: bytes | None = None
        self.cancelled = False
        #: It was said that it does not end though it was cancelled.
        self.warned = False
        self.done = False
        #: What a task that streams has yielded, and how much; gives None when nobody wants it any more.
        self.stream: Callable[[], Stream | None] = _none
        self.streamed = 0
        # Actor calls only.
        self.actor: bytes = b""
        self.method: bytes = b""
        self.group: str = ""

    def to_wire(self, frames: list[Any], address: str, peer: Peer, pushed: dict[bytes, ObjectEntry]) -> wire.Task:
        """The message for one execution by ``peer``; large buffers are added to ``frames``, and see ``Peer.keeps``."""
        args = self.args if len(self.args) < codec.OUT_OF_BAND_BYTES else codec.attach(self.args, frames)
        export = self.export
        target = self.method or (export.hash if export is not None else b"")
        options = self.options
        if not (self.deps or self.refs or options is not None or self.attempt or self.stored or self.streamed):
            if not self.actor:
                return wire.Task(self.id, target, args, self.num_returns)
            limit_s = self.timeout_s or 0.0
            label, actor, group = self.label, self.actor, self.group
            return wire.Task(self.id, target, args, self.num_returns, label, _NONE, _NONE, 0, limit_s, 0, actor, group)
        retry = options.retry_exceptions if options is not None and self.retries else False
        stream = self.stream() if self.streamed else None
        return wire.Task(
            self.id,
            target,
            args,
            self.num_returns,
            self.label,
            [_dependency(at, entry, frames, address, peer, pushed) for at, entry in self.deps] if self.deps else _NONE,
            _refs(self.refs, address, peer.address) if self.refs else _NONE,
            self.attempt,
            self.timeout_s or 0.0,
            options.max_calls if options is not None else 0,
            self.actor,
            self.group,
            b"" if not retry else b"*" if retry is True else pickle_types(retry),
            self.stored,
            None if stream is None else resume(stream, self.streamed),
        )


def _dependency(
    at: int | str, entry: ObjectEntry, frames: list[Any], address: str, peer: Peer, pushed: dict[bytes, ObjectEntry]
) -> wire.Dependency:
    data, value = None, entry.value  # None where a call that interrupts this has seen to the task, and its end
    if entry.status != STORED and value is not None and not peer.keeps(entry, value, pushed):
        data = codec.attach(value, frames)
    refs = _refs(entry.contained, address, peer.address)
    return wire.Dependency(at, data, entry.id, entry.owner or address, refs)


def _refs(entries: Iterable[ObjectEntry], address: str, receiver: str) -> list[wire.Ref]:
    return [describe(entry, address, 0 if entry.owner in (None, receiver) else 1) for entry in entries]


def pickle_types(types: Any) -> bytes:
    """The exception classes of an option as bytes."""
    from ray.serialization import dump_function

    return dump_function(types)[0]


class SchedulingClass:
    """Tasks with the same needs: one queue, and the leases that serve it."""

    __slots__ = (
        "checking", "demanded", "depth", "lack", "links", "number", "priority", "queue", "resources", "resting",
    )  # fmt: skip

    def __init__(self, number: int, resources: Mapping[str, int], priority: int, depth: int) -> None:
        self.number = number
        self.resources = dict(resources)
        self.priority = priority
        self.depth = depth
        self.queue: deque[TaskRecord] = deque()
        #: Tasks that have failed and wait for their next attempt.
        self.resting = 0
        self.links: list[Link] = []
        #: Workers asked for and not granted yet.
        self.demanded = 0
        #: What was asked for is more than any node has: says so in a predicate, else empty.
        self.lack = ""
        #: A check for work to take back from stalled workers is due.
        self.checking = False

    def open_links(self) -> list[Link]:
        """Its workers that may get tasks."""
        return [
            link
            for link in self.links
            if not (link.blocked or link.revoked or link.recall or link.dead or (link.stalled and link.inflight))
        ]

    def waits(self) -> bool:
        """Whether any of its tasks has no worker."""
        return bool(self.queue or self.resting)

    def precedes(self, link: Link, now: float) -> bool:
        """Whether this class, which has no worker, should have that of ``link`` when what it runs has ended."""
        other = link.cls
        if self.priority > other.priority and self.resources == other.resources:
            return True
        return self is not other and self.priority >= other.priority and now - link.granted > SLICE_S


#: A message that is being made: its frames (see ``Peer.push``), and the large values and functions that go along.
Push: TypeAlias = tuple[list[Any], dict[bytes, ObjectEntry], list[wire.Function]]


class Link:
    """A leased worker, from the owner's side."""

    __slots__ = (
        "batch", "blocked", "cls", "dead", "ended", "gpu_ids", "granted", "handed", "idle_since", "inflight", "lease",
        "peer", "pid", "progress", "push", "recall", "revoked", "stalled", "wanted",
    )  # fmt: skip

    def __init__(self, lease: bytes, cls: SchedulingClass, peer: Peer, pid: int, gpu_ids: list[str]) -> None:
        self.lease = lease
        self.cls = cls
        self.peer = peer
        self.pid = pid
        self.gpu_ids = gpu_ids
        #: {task id: record} in the order of pushing
        self.inflight: dict[bytes, TaskRecord] = {}
        #: {task id: record} of those that are about to be sent together …
        self.batch: dict[bytes, TaskRecord] = {}
        #: … in this message, while one is being made …
        self.push: Push | None = None
        #: … and what is handed over with it: (task id, place of a ref in the arguments).
        self.handed: set[tuple[bytes, int]] = set()
        self.blocked = False
        self.revoked = False
        #: Others wait for the worker.
        self.wanted = False
        #: Asked to give back what it has not started: it gets nothing until it has answered.
        self.recall: OpenRecall | None = None
        #: Was asked so, and has not replied since: what it gives back is not for it.
        self.stalled = False
        self.dead = False
        #: How the worker ended, while its last replies are still to be read.
        self.ended: ExitCause | None = None
        #: Monotonic time of the grant.
        self.granted = monotonic()
        self.idle_since = 0.0
        #: Monotonic time of the last reply, or of the first push after it.
        self.progress = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether it could be released."""
        return not (self.inflight or self.blocked or self.recall or self.dead)

    def forget_batch(self) -> None:
        """What is about to be sent is not to be sent any more."""
        push, self.push = self.push, None
        if push is not None:
            push[0][0] = None
        self.batch.clear()
        self.handed = set()

    def room(self) -> int:
        """How many more tasks may wait behind those that it has: none behind one that may take long."""
        try:
            last = self.inflight[next(reversed(self.inflight))]
        except (KeyError, RuntimeError, StopIteration):  # a call that has interrupted this one has ended some
            return 1 - len(self.inflight)
        export = last.export
        return (export.pipeline() if export is not None and not last.alone else 1) - len(self.inflight)

    def started(self, running: bytes, *, died: bool = False) -> int:
        """How many of ``inflight`` the worker has started, ``running`` last; one if that is not known.

        A dead worker may have looked at one more task, which it was not to start any more.
        """
        if died and self.recall is not None and self.recall.exempt and running not in self.inflight:
            running = self.recall.exempt
        for index, id in enumerate(self.inflight, 1):
            if id == running:
                return index
        return 0 if running else min(1, len(self.inflight))


def return_ids(task_id: bytes, count: int) -> list[bytes]:
    """Object ids of a task's returns."""
    if count == 1:
        return [task_id + FIRST_RETURN]
    return [task_id + index.to_bytes(4, "big") for index in range(count)]
