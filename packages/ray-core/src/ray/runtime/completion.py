"""Waiting for objects: threads, by a lock that is released when the last object is complete; others, by a callback.

``when_done``, ``is_done``, ``value_of`` and ``deliver`` are what selectors and event loops outside the core build on.
"""

from __future__ import annotations

import contextlib
from _thread import allocate_lock
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeVar

from ray.exceptions import RayConnectionError
from ray.protocol.references import FAILED, PENDING, READY, STORED, ObjectEntry
from ray.runtime import interface

if TYPE_CHECKING:
    import asyncio

    from ray.abc.selector import ObjectSelector
    from ray.runtime.interface import Runtime
    from ray.runtime.refs.ref import ObjectRef

R = TypeVar("R")


class Waiter:
    """Counts completions of the entries it was added to. Called under the runtime's lock, waited for without it."""

    __slots__ = ("_gate", "entries", "needed", "wake")

    def __init__(self, needed: int, entries: Collection[ObjectEntry] = ()) -> None:
        self.needed = needed
        #: What it waits for, where that is objects.
        self.entries = entries
        #: Set while the waiting thread polls: makes it look at ``needed``.
        self.wake: Callable[[], None] | None = None
        self._gate = allocate_lock()
        self._gate.acquire()

    def __call__(self, entry: ObjectEntry) -> None:
        self.count()

    def count(self) -> None:
        """One of the awaited things has happened."""
        self.needed -= 1
        if not self.needed:
            self.leave()
            if self.wake is not None:
                self.wake()

    def leave(self) -> None:
        """Have ``block`` return, now or when it is called. Idempotent."""
        try:
            self._gate.release()
        except RuntimeError:
            pass  # it does already

    def block(self, timeout_s: float | None) -> bool:
        """Wait until enough are complete; False when the time is over. Interruptible by signals."""
        if timeout_s is None:
            return self._gate.acquire()
        return self._gate.acquire(timeout=min(timeout_s, 1e6))


class GroupWaiter(Waiter):
    """Waits for ``needed`` of a set of entries; listed with the table instead of with each entry."""

    __slots__ = ()

    def __init__(self, entries: set[ObjectEntry], needed: int) -> None:
        super().__init__(needed, entries)

    def completed(self, entry: ObjectEntry) -> None:
        """Some entry of the table is complete."""
        if entry in self.entries and self.needed:
            self.count()


class AllOrFailureWaiter(GroupWaiter):
    """Waits for all of a set of entries, or until one of them has failed."""

    __slots__ = ()

    def completed(self, entry: ObjectEntry) -> None:
        """Some entry of the table is complete."""
        if entry in self.entries:
            needed = self.needed
            if needed > 1 and entry.status != FAILED:
                self.needed = needed - 1  # as ``count``, with no call before the last one
            elif needed:
                self.needed = 1
                self.count()


def remove_waiter(entry: ObjectEntry, waiter: Waiter) -> None:
    """No longer have ``waiter`` called, after a time-out or an interrupt."""
    if entry.status == PENDING and entry.waiters is not None:
        with contextlib.suppress(ValueError):
            entry.waiters.remove(waiter)


def complete(entry: ObjectEntry, status: int, value: object) -> None:
    """Move an entry out of PENDING and tell those who wait; called under the runtime's lock."""
    entry.status = status
    entry.value = value
    entry.task = None
    table = entry.table
    table.completions += 1
    for watcher in table.watchers:
        watcher.completed(entry)
    waiters = entry.waiters
    if waiters is not None:
        entry.waiters = None
        for waiter in waiters:
            waiter(entry)


# --- callbacks instead of threads
# --------------------------------------------------------------------------


class Listener:
    """Is told once that an object is complete. Keeps the ref, and so the object, until then."""

    __slots__ = ("ref",)

    def __init__(self, ref: ObjectRef[Any]) -> None:
        self.ref = ref

    def __call__(self, entry: ObjectEntry) -> None:
        entry.table.listeners -= 1
        self.told()

    def told(self) -> None:
        """The object is ready or failed; called under the runtime's lock, on any thread."""
        raise NotImplementedError


class _Callback(Listener):
    __slots__ = ("told",)

    def __init__(self, ref: ObjectRef[Any], callback: Callable[[], None]) -> None:
        super().__init__(ref)
        self.told = callback  # type: ignore[method-assign]


def session_of(ref: ObjectRef[Any]) -> Runtime:
    """The session that a ref belongs to.

    Raises:
        RayConnectionError: it has ended, or there has never been one.
    """
    runtime = interface._current
    if runtime is None or not runtime.knows(ref):
        raise RayConnectionError(f"{ref!r} belongs to a session that has ended.")
    return runtime


def when_done(ref: ObjectRef[Any], callback: Callable[[], None]) -> Callable[[], None]:
    """Call ``callback`` once when the object is ready or failed.

    At once and on this thread, if it is already; else on whichever thread takes the message, under the runtime's lock:
    it must be quick, not raise, and not call back into ``ray``. Borrowed objects are fetched. When the session ends,
    pending objects fail. The ref is kept until then.

    Returns:
        A function that withdraws; idempotent, any thread. A callback that is under way may still come.

    Raises:
        RayConnectionError: the ref belongs to a session that has ended.
    """
    runtime = session_of(ref)
    listener = _Callback(ref, callback)
    if not runtime.subscribe(listener):
        callback()
        return _nothing

    def withdraw() -> None:
        runtime.unsubscribe(listener)

    return withdraw


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


def deliver(ref: ObjectRef[Any], future: asyncio.Future[Any]) -> None:
    """Give a future the value, or the error, of an object once there is one; called on the future's loop.

    The loop does not wait for the disk that the value may be on.

    Raises:
        RayConnectionError: the ref belongs to a session that has ended.
    """
    from ray.runtime.refs import awaiting  # asyncio takes as long to import as the rest of this package

    awaiting.deliver(ref, future)


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
