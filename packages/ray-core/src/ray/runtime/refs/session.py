"""What references ask of the session that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ray.exceptions import RayConnectionError
from ray.exceptions.base import cut_frames
from ray.protocol.references import AWAY, READY, STORED, ObjectEntry
from ray.runtime.refs.counted import CountedRef

if TYPE_CHECKING:
    import asyncio

    from ray.plugins.compose import Composition

R = TypeVar("R")
Ref = TypeVar("Ref", bound=CountedRef[Any])


class Source(Protocol):
    """What tells a listener of one object."""

    def subscribe(self, listener: Listener) -> bool:
        """Have the listener told; False, and nothing happens, if there is nothing to wait for."""

    def unsubscribe(self, listener: Listener) -> bool:
        """Undo ``subscribe``; False if the listener has been told, or was never subscribed."""


class Arriving(Source, Protocol):
    """An object that is complete, but must be brought into memory first."""

    def value(self) -> Any:
        """What has arrived, or raise why it has not."""


class Listener:
    """Is told once that an object is complete. Keeps the ref, and so the object, until then."""

    __slots__ = ("call", "ref")

    #: Whether messages are to be taken for it without delay. Else it is told when they are taken anyway.
    prompt = True

    def __init__(self, ref: CountedRef[Any]) -> None:
        self.ref = ref
        #: The call of an actor for which it listens.
        self.call: Any = None

    def __call__(self, entry: ObjectEntry) -> None:
        if self.prompt:
            entry.table.listeners -= 1
        self.told()

    def told(self) -> None:
        """The object is ready or failed; called under the runtime's lock, on any thread."""
        raise NotImplementedError

    def future(self) -> asyncio.Future[Any] | None:
        """What it completes on a loop, if that is such a future."""
        return None

    def refuse(self, error: Exception) -> None:
        """Have that future fail; any thread."""


class Waits(Protocol):
    """Waiting for objects with a thread."""

    def get_one(self, ref: CountedRef[Any], timeout_s: float | None, copy: bool = False) -> Any:
        """The value, or raise why there is none."""

    def get_done(self, ref: CountedRef[Any], timeout_s: float | None = None) -> Any:
        """The value of a ref that is done, or raise why there is none; waits for its way from another node alone.

        Not longer than ``timeout_s``. Raises GetTimeoutError as well if the ref is not done.
        """

    def wait(
        self, refs: list[Ref], num_returns: int, timeout_s: float | None, fetch: bool = False
    ) -> tuple[list[Ref], list[Ref]]:
        """At most ``num_returns`` ready refs, and the rest, both in input order.

        ``fetch``: values are brought to this node, and ready once they are there.
        """

    def wait_for_next(self, ref: CountedRef[Any]) -> None:
        """Wait for what comes next in a stream, or for its end."""

    def wait_for_future(self, ref: CountedRef[Any], wait: Callable[[float | None], bool]) -> None:
        """Call ``wait``, which takes seconds, until the future of ``ref`` is done.

        Raises:
            BlockingCallError: that would never be, as an actor waits here for a call of its own.
        """

    def check_blocking(self, call: str) -> None:
        """Raise BlockingCallError if a wait in ``call`` on this thread would stop the event loop of an async actor."""

    def asked_for(self, refs: Sequence[CountedRef[Any]]) -> None:
        """A wait for all of these has ended before all were done: nobody need be told of those that fail."""


class Cancels(Protocol):
    """Cancelling the tasks that make objects."""

    def check_force(self, ref: CountedRef[Any]) -> None:
        """Raise ValueError if the process that ``ref`` comes from is not to be ended by a cancel: that of an actor."""

    def cancel(self, ref: CountedRef[Any], force: bool, recursive: bool, *, again: bool = False) -> None:
        """Cancel the task that makes ``ref``; no effect once it has ended.

        ``again``: also if it was cancelled before, and has gone on: what asks for it is the user's program itself.
        """


class Session(Source, Waits, Cancels, Protocol):
    """A live session, as its refs use it."""

    composition: Composition

    @property
    def session_id(self) -> str: ...

    def knows(self, ref: CountedRef[Any]) -> bool:
        """Whether the ref belongs to this session."""

    def is_done(self, ref: CountedRef[Any]) -> bool:
        """Whether the object is ready or failed, at once; has the value of a borrowed object sent."""

    def on_disk(self, ref: CountedRef[Any]) -> Arriving | None:
        """A complete object that a read would have to wait for, so that event loops have it read instead; else None."""

    def reduce_ref(self, ref: CountedRef[Any], refs: list[Any] | None) -> tuple[Any, ...]:
        """Reduce tuple of a ref; ``refs`` collects refs of one serialized value, None means out-of-band pickling."""

    def promise(self, unheld: Callable[[], None]) -> tuple[CountedRef[None], Callable[[], None]]:
        """See ``completion.promise``."""

    def find_entry(self, id: bytes) -> ObjectEntry:
        """The entry of an id, known or not (``ObjectRef(bytes)``)."""


_current: Session | None = None


def current() -> Session | None:
    """The session of this process, or None."""
    return _current


def set_current(session: Session | None) -> None:
    """Called by ``interface.set_current`` only."""
    global _current
    _current = session


def session_of(ref: CountedRef[Any]) -> Session:
    """The session that a ref belongs to.

    Raises:
        RayConnectionError: it has ended, or there has never been one.
    """
    runtime = _current
    if runtime is None or not runtime.knows(ref):
        raise RayConnectionError(f"{ref!r} belongs to a session that has ended.")
    return runtime


def is_done(ref: CountedRef[Any]) -> bool:
    """Whether the object is ready or failed, without waiting; has the value of a borrowed object sent.

    True as well for a ref of a session that has ended: there is nothing to wait for any more.
    """
    runtime = _current
    return runtime is None or not runtime.knows(ref) or runtime.is_done(ref)


def value_of(ref: CountedRef[R], timeout_s: float | None = None) -> R:
    """The value of an object for which ``is_done`` is true, or raise its failure.

    Waits for nothing but a disk, or another node that has it, and for that not longer than ``timeout_s``.

    Raises:
        GetTimeoutError: the object is not done, or does not come in that time.
        RayConnectionError: the ref belongs to a session that has ended.
        RayError: as ``ray.get``.
    """
    value: R = session_of(ref).get_done(ref, timeout_s)
    return value


def failure_of(ref: CountedRef[Any]) -> BaseException | None:
    """What ``value_of`` would raise for an object that is done, or None; looks into no value."""
    runtime = _current
    if runtime is not None and runtime.knows(ref) and ref._entry.status in (READY, STORED, AWAY):
        return None
    try:
        value_of(ref)
    except Exception as error:
        cut_frames(error)  # they lead to the caller's, which would keep itself by the error
        return error
    return None


def current_session() -> Session:
    """The session of this process.

    Raises:
        RayConnectionError: there is none.
    """
    if _current is None:
        raise RayConnectionError
    return _current
