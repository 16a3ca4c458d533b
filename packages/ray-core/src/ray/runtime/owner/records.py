"""What an owner keeps about its unfinished work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from ray.ids import FIRST_RETURN
from ray.messages import codec, wire
from ray.protocol.references import STORED, Maker, ObjectEntry
from ray.protocol.run_time import RunTime
from ray.runtime.owner.handed_refs import describe
from ray.runtime.owner.resuming import resume

if TYPE_CHECKING:
    from ray.protocol.task_records import Lease, SchedulingClass
    from ray.runtime.interface import TaskOptions
    from ray.runtime.owner.captured import Captured
    from ray.runtime.process.peers import Peer
    from ray.runtime.refs.generator import Stream


class Export:
    """A function or class, pickled once per session."""

    __slots__ = ("captured", "data", "hash", "here", "name", "place", "refs", "time")

    def __init__(self, here: object, hash: bytes, data: bytes, name: str, refs: list[Any]) -> None:
        #: What the session is known by that it is for.
        self.here = here
        self.hash = hash
        self.data = data
        self.name = name
        #: Keeps what the closure refers to.
        self.refs = refs
        self.time = RunTime()
        #: Variables that came along and may change here.
        self.captured: Captured | None = None
        #: What ``SchedulingClasses.find`` has said of the options that it was called with last.
        self.place: tuple[TaskOptions, SchedulingClass[TaskRecord], bool] | None = None


#: Gives the memory of an object in the node's store, unless that would take a while.
AtOnce: TypeAlias = Callable[[bytes], "memoryview | None"]

#: Says where a process finds the value of an entry by itself, if not in the store of its node.
AtOf: TypeAlias = Callable[[ObjectEntry, "Peer"], "wire.At | None"]

#: A list that nobody changes.
_NONE: list[Any] = []


def _none() -> None:
    """No stream."""


def nowhere(entry: ObjectEntry, receiver: Peer) -> None:
    """Of processes whose stores are their own: values travel in messages."""


class TaskRecord(Maker):
    """A task or actor call from submission to completion; kept whole for retries."""

    __slots__ = (
        "actor", "alone", "args", "asked", "attempt", "cancelled", "crash", "deps", "done", "entries", "export",
        "group", "id", "label", "method", "name", "num_returns", "options", "parent", "pins", "place", "refs",
        "retries", "stored", "stream", "streamed", "timeout_s", "waiting", "warned",
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
        self.args = args
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
        self.options: TaskOptions | None = None
        #: Its scheduling class, the lease of the worker that has it, or the way to its actor.
        self.place: object = None
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

    def to_wire(
        self,
        frames: list[Any],
        address: str,
        peer: Peer,
        pushed: dict[bytes, ObjectEntry],
        at_once: AtOnce,
        at: AtOf = nowhere,
    ) -> wire.Task:
        """The message for one execution by ``peer``; large buffers are added to ``frames``, and see ``Peer.keeps``.

        A ``peer`` of another node gets what is in this node's store along with it: the very memory, of which nothing
        is copied. What cannot be read ``at_once`` it asks its owner for, so that nobody here waits for a disk.
        """
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
        stored = self.stored
        if stored and not peer.near and not any(at(entry, peer) for entry in self.pins if entry.id == stored):
            blob = at_once(stored)
            if blob is not None:
                args, stored = codec.attach(blob, frames), b""
        return wire.Task(
            self.id,
            target,
            args,
            self.num_returns,
            self.label,
            [_dependency(to, entry, frames, address, peer, pushed, at_once, at) for to, entry in self.deps]
            if self.deps
            else _NONE,
            _refs(self.refs, address, peer) if self.refs else _NONE,
            self.attempt,
            self.timeout_s or 0.0,
            options.max_calls if options is not None else 0,
            self.actor,
            self.group,
            b"" if not retry else b"*" if retry is True else pickle_types(retry),
            stored,
            None if stream is None else resume(stream, self.streamed),
        )


def _dependency(
    to: int | str,
    entry: ObjectEntry,
    frames: list[Any],
    address: str,
    peer: Peer,
    pushed: dict[bytes, ObjectEntry],
    at_once: AtOnce,
    at: AtOf,
) -> wire.Dependency:
    data, value = None, entry.value  # None where a call that interrupts this has seen to the task, and its end
    away = None
    if entry.status >= STORED:
        away = at(entry, peer)
        if away is None and not peer.near and not entry.freed and not peer.keeps(entry, entry.nbytes, pushed):
            blob = at_once(entry.id)
            if blob is None:
                pushed.pop(entry.id, None)
            else:
                data = codec.attach(blob, frames)
    elif value is not None and not peer.keeps(entry, len(value), pushed):
        data = codec.attach(value, frames)
    refs = _refs(entry.contained, address, peer)
    return wire.Dependency(to, data, entry.id, address if entry.owner is None else entry.owner.address, refs, away)


def _refs(entries: Iterable[ObjectEntry], address: str, receiver: Peer) -> list[wire.Ref]:
    process, near = receiver.process, receiver.near
    return [
        describe(entry, address, 0 if entry.owner is None or entry.owner.process == process else 1, near=near)
        for entry in entries
    ]


def pickle_types(types: Any) -> bytes:
    """The exception classes of an option as bytes."""
    from ray.serialization import dump_function

    return dump_function(types)[0]


#: A message that is being made: frames (see ``Peer.push``), the large values and functions that go along, and tasks.
Push: TypeAlias = tuple[list[Any], dict[bytes, ObjectEntry], list[wire.Function], list[wire.Task]]


class Link:
    """The way to a leased worker."""

    __slots__ = ("gpu_ids", "handed", "inflight", "lease", "peer", "pid", "push")

    def __init__(self, lease: Lease[TaskRecord], peer: Peer, pid: int, gpu_ids: list[str]) -> None:
        self.lease = lease
        #: That of the lease.
        self.inflight = lease.inflight
        self.peer = peer
        self.pid = pid
        self.gpu_ids = gpu_ids
        #: The message that the lease's batch is about to be sent in, while it is being made …
        self.push: Push | None = None
        #: … and what is handed over with it: (task id, place of a ref in the arguments).
        self.handed: set[tuple[bytes, int]] = set()

    def forget_push(self) -> None:
        """What is about to be sent is not to be sent any more."""
        push, self.push = self.push, None
        if push is not None:
            push[0][0] = None
        self.handed = set()


def return_ids(task_id: bytes, count: int) -> list[bytes]:
    """Object ids of a task's returns."""
    if count == 1:
        return [task_id + FIRST_RETURN]
    return [task_id + index.to_bytes(4, "big") for index in range(count)]
