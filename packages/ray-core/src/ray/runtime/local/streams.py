"""Streams of local mode: made at the call until they are far ahead of their consumer, then one by one as it asks."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from ray.clock import monotonic
from ray.exceptions import TaskCancelledError
from ray.exceptions.base import comes_from_handler
from ray.ids import object_id
from ray.protocol.references import PENDING, Maker
from ray.runtime.local.frames import running
from ray.runtime.process.interrupts import may_interrupt
from ray.runtime.refs.generator import ObjectRefGenerator, Stream
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.returns import pack, streamable
from ray.runtime.worker.yielding import MAX_AHEAD, size_ahead
from ray.serialization import ORDERLY

if TYPE_CHECKING:
    from ray.protocol.references import ObjectEntry
    from ray.runtime.local.frames import Frame
    from ray.serialization import Serialized

_END = object()
#: A task that yields slowly, perhaps for ever, keeps its caller no longer.
_MAX_S = 1.0


class StreamHost(Protocol):
    """What a stream asks of its session."""

    def attempt(self, frame: Frame, entries: list[ObjectEntry], run: Callable[[], None]) -> None:
        """Have ``run`` make objects, more than once if the task is to be retried; they fail as it does."""

    def fail(self, entries: list[ObjectEntry], frame: Frame, error: BaseException, kind: str = "") -> None:
        """The task has failed, and so have its objects."""

    def fill(self, entries: list[ObjectEntry], packed: list[Serialized], name: str) -> None:
        """Objects are made, by the task of this name."""

    def own_entry(self, id: bytes) -> ObjectEntry:
        """The entry of an object that is to be made."""


class LocalStream(Maker):
    """A task that yields. The ``task`` of the entry which comes next, until the task has ended."""

    __slots__ = ("_call", "_closed", "_entries", "_frame", "_host", "_made", "_runs", "_stream", "_values")

    def __init__(self, host: StreamHost, frame: Frame, call: Callable[[], Any]) -> None:
        self._host = host
        self._frame = frame
        #: Begins an attempt: returns what to draw from.
        self._call = call
        self._values: Any = None
        self._made = 0
        #: The one that comes next.
        self._entries: list[ObjectEntry] = [self._next_entry()]
        self._stream: Callable[[], Stream | None] = lambda: None
        self._runs = self._closed = False

    def begin(self) -> ObjectRefGenerator[Any]:
        """Run as far ahead as a stream may be."""
        stream = Stream([ObjectRef(self._entries[0])], _ignore)  # no task goes on meanwhile
        self._stream = weakref.ref(stream)
        self._run(MAX_AHEAD)
        return ObjectRefGenerator(stream)

    def go_on(self) -> None:
        """Make the object that comes next, as its consumer waits for it."""
        self._run(1)

    def close(self) -> None:
        """Nobody wants more."""
        self._closed = True
        if not self._runs:
            self._end()

    def _run(self, most: int) -> None:
        if self._runs:
            raise RuntimeError(f"{self._frame.name} waits for the next object of its own stream, which it is to yield.")
        self._runs = True
        try:
            self._host.attempt(self._frame, self._entries, lambda: self._draw(most))
        except BaseException:
            self._closed = True  # where its generator has ended, nothing follows
            raise
        finally:
            self._runs = False
            if self._closed or self._entries[0].status != PENDING:
                self._end()

    def _draw(self, most: int) -> None:
        self._frame.check_actor()
        if self._values is None:
            self._values = iter(streamable(self._call()))
            for _ in range(self._made):  # by an earlier attempt
                _next_of(self._values)
        ahead = 0
        end = monotonic() + _MAX_S if self._frame.actor is None else inf  # calls of an actor have their order
        try:
            while ahead < most and not self._closed:
                value = _next_of(self._values)
                if value is _END:
                    self._host.fill(self._entries, [pack(None)], self._frame.name)
                    return
                packed = pack(value)
                self._add(packed)
                ahead += size_ahead(packed.nbytes)
                if monotonic() > end:
                    return
        except BaseException:
            self._close_values()
            raise

    def _add(self, packed: Any) -> None:
        stream = self._stream()
        self._host.fill(self._entries, [packed], self._frame.name)
        self._made += 1
        self._entries[:] = [self._next_entry()]
        ref: ObjectRef[Any] = ObjectRef(self._entries[0])
        if stream is not None and not self._closed:
            stream.refs.append(ref)

    def _next_entry(self) -> ObjectEntry:
        entry = self._host.own_entry(object_id(self._frame.task_id, self._made))
        entry.task = self
        return entry

    def _end(self) -> None:
        [entry] = self._entries
        if entry.status == PENDING:
            frame = self._frame
            self._host.fail(self._entries, frame, TaskCancelledError(frame.name, frame.task_id), ORDERLY)
        entry.task, self._frame.core = self._frame.name, None
        self._close_values()

    def _close_values(self) -> None:
        """Let the task's ``finally`` blocks run; nobody asks for what they raise."""
        values, self._values = self._values, None
        token = running.set(self._frame)
        try:
            getattr(values, "close", _nothing)()
        except Exception as error:
            if comes_from_handler(error):
                raise
        finally:
            running.reset(token)


def _nothing() -> None:
    """How to close what has nothing to be closed."""


def _next_of(values: Any) -> Any:
    return next(values, _END)


may_interrupt(_next_of.__code__)


def _ignore(stream: Stream) -> None:
    """Nobody waits for its consumer."""
