"""What references ask of the session that they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ray.exceptions import RayConnectionError
from ray.protocol.references import READY, STORED, ObjectEntry
from ray.runtime import interface

if TYPE_CHECKING:
    import asyncio

    from ray.runtime.interface import Runtime
    from ray.runtime.refs.ref import ObjectRef

R = TypeVar("R")


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

    def __init__(self, ref: ObjectRef[Any]) -> None:
        self.ref = ref
        #: The call of an actor for which it listens.
        self.call: Any = None

    def __call__(self, entry: ObjectEntry) -> None:
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


def session_of(ref: ObjectRef[Any]) -> Runtime:
    """The session that a ref belongs to.

    Raises:
        RayConnectionError: it has ended, or there has never been one.
    """
    runtime = interface._current
    if runtime is None or not runtime.knows(ref):
        raise RayConnectionError(f"{ref!r} belongs to a session that has ended.")
    return runtime


def is_done(ref: ObjectRef[Any]) -> bool:
    """Whether the object is ready or failed, without waiting; has the value of a borrowed object sent.

    True as well for a ref of a session that has ended: there is nothing to wait for any more.
    """
    runtime = interface._current
    return runtime is None or not runtime.knows(ref) or runtime.is_done(ref)


def value_of(ref: ObjectRef[R]) -> R:
    """The value of an object for which ``is_done`` is true, or raise its failure. Waits for nothing but a disk.

    Raises:
        GetTimeoutError: the object is not done.
        RayConnectionError: the ref belongs to a session that has ended.
        RayError: as ``ray.get``.
    """
    value: R = session_of(ref).get_one(ref, 0)
    return value


def failure_of(ref: ObjectRef[Any]) -> BaseException | None:
    """What ``value_of`` would raise for an object that is done, or None; looks into no value."""
    runtime = interface._current
    if runtime is not None and runtime.knows(ref) and ref._entry.status in (READY, STORED):
        return None
    try:
        value_of(ref)
    except Exception as error:
        return error
    return None


def current_session() -> Runtime:
    """The session of this process.

    Raises:
        RayConnectionError: there is none.
    """
    runtime = interface._current
    if runtime is None:
        raise RayConnectionError
    return runtime
