"""Waiting for objects without a thread: what selectors and event loops outside the core build on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ray.runtime.refs.session import Listener, current_session, is_done, session_of, value_of
from ray.whole_imports import import_whole

if TYPE_CHECKING:
    import asyncio

    from ray.abc.selector import ObjectSelector
    from ray.runtime.refs.ref import ObjectRef

__all__ = [
    "current_session",
    "deliver",
    "is_done",
    "make_selector",
    "promise",
    "session_of",
    "value_of",
    "when_done",
]


class _Callback(Listener):
    __slots__ = ("told",)

    def __init__(self, ref: ObjectRef[Any], callback: Callable[[], None]) -> None:
        super().__init__(ref)
        self.told = callback  # type: ignore[method-assign]


class _LateCallback(_Callback):
    __slots__ = ()

    prompt = False


def when_done(ref: ObjectRef[Any], callback: Callable[[], None], *, prompt: bool = True) -> Callable[[], None]:
    """Call ``callback`` once when the object is ready or failed.

    At once and on this thread, if it is already; else on whichever thread takes the message, under the runtime's lock:
    it must be quick, not raise, and not call back into ``ray``. Borrowed objects are fetched. When the session ends,
    pending objects fail. The ref is kept until then.

    ``prompt=False`` spares the wake-up of a thread: the message is taken by the next thread that waits for anything, or
    a few milliseconds later.

    Returns:
        A function that withdraws; idempotent, any thread. A callback that is under way may still come.

    Raises:
        RayConnectionError: the ref belongs to a session that has ended.
    """
    runtime = session_of(ref)
    listener = (_Callback if prompt else _LateCallback)(ref, callback)
    if not runtime.subscribe(listener):
        callback()
        return _nothing

    def withdraw() -> None:
        runtime.unsubscribe(listener)

    return withdraw


def deliver(ref: ObjectRef[Any], future: asyncio.Future[Any]) -> None:
    """Give a future the value, or the error, of an object once there is one; called on the future's loop.

    The loop does not wait for the disk that the value may be on.

    Raises:
        RayConnectionError: the ref belongs to a session that has ended.
    """
    import_whole("ray.runtime.refs.awaiting")  # asyncio takes as long as the rest of this package
    from ray.runtime.refs import awaiting

    awaiting.deliver(ref, future)


def promise(unheld: Callable[[], None]) -> tuple[ObjectRef[None], Callable[[], None]]:
    """An object of this process that is pending until the returned function is called, and None from then on.

    It tells which other process still waits for it, or holds it as a sign of life: the process that was given the ref
    holds it until it lets go or ends, however that comes about. This process drops its own ref once others have it.

    Args:
        unheld: called once when no process holds the object any more, completed or not; under the runtime's lock, on
            whichever thread takes the message: it must be quick, not raise, and wait for no lock.

    Returns:
        The ref, and the function that completes the object: idempotent, any thread, without effect once it is unheld.

    Raises:
        RayConnectionError: there is no session, or it has ended.
    """
    return cast("tuple[ObjectRef[None], Callable[[], None]]", current_session().promise(unheld))


def make_selector(name: str | None = None) -> ObjectSelector:
    """Make a selector over the objects of this session: the one of its plan, or any installed one by its name.

    The caller closes it.

    Raises:
        RayConnectionError: there is no session.
        PluginError: there is none of that name, or it does not fit.
    """
    runtime = current_session()
    return runtime.composition.make_selector(runtime, name)


def _nothing() -> None:
    """Withdraws nothing."""
