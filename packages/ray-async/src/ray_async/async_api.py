"""The async API: ``ray.experimental.async_api``.

One event loop over objects is made for the process when it is first needed, and is ``eventloop`` from then on;
``run_until_complete`` runs coroutines on it. The coroutines run on any other loop of asyncio as well.
"""

from __future__ import annotations

import asyncio
import atexit
import datetime
import os
import threading
import warnings
import weakref
from collections.abc import Awaitable
from typing import Any

import ray
from ray.runtime.completion import current_session, deliver, is_done, make_selector, session_of, value_of
from ray.units import seconds_from_milliseconds
from ray_async.ending import wind_up
from ray_async.groups import PlasmaFutureGroup
from ray_async.object_future import PlasmaObjectFuture
from ray_async.plasma_eventloop import PlasmaSelectorEventLoop
from ray_async.waiting import check_wait, get_values, wait_ready

__all__ = [
    "PlasmaFutureGroup",
    "as_future",
    "cleanup",
    "create_group",
    "eventloop",
    "get",
    "init",
    "run_until_complete",
    "set_debug",
    "shutdown",
    "wait",
]

#: Tasks that are left on the loop when it is closed are cancelled, and have this long to end.
WIND_UP_S = 1.0

#: The event loop over objects, or None until it is first needed.
eventloop: PlasmaSelectorEventLoop | None = None
_lock = threading.RLock()
_registered = False


# --- on the event loop over objects -----------------------------------------------------------------------------------


async def get(object_ids: Any, worker: object = None) -> Any:
    """Wait for objects and return their values, without blocking the event loop.

    Args:
        object_ids: a reference; a coroutine or future that gives one (or gives another coroutine or future, and so on);
            or a list of these. Anything else is its own value.
        worker: taken for the sake of old programs.

    Returns:
        The value, or the list of values in order.

    Raises:
        RayConnectionError: there is no session.
        RayError: as ``ray.get``, as soon as one fails. What a coroutine raises is raised as it is.
        ValueError: a future belongs to another event loop.
    """
    return await get_values(asyncio.get_running_loop(), object_ids)


async def wait(
    object_ids: list[Any],
    num_returns: int = 1,
    timeout: float | datetime.timedelta | None = None,  # noqa: ASYNC109 - the specification's
    worker: object = None,
) -> tuple[list[Any], list[Any]]:
    """Wait until some objects are ready, without blocking the event loop. A failed task counts as ready.

    Args:
        object_ids: references, and coroutines and futures that give references; no two alike.
        num_returns: how many to wait for.
        timeout: **milliseconds**, a timedelta, or None to wait for as long as it takes.
        worker: taken for the sake of old programs.

    Returns:
        At most ``num_returns`` ready references, and the rest, both in the order of ``object_ids``. The rest has the
        coroutine or future itself where it has not given a reference yet; it goes on, and may be passed in again.

    Raises:
        RayConnectionError: there is no session.
        TypeError: not a list of these; or a coroutine gave something that is no reference.
        ValueError: a negative timeout, duplicates, or a ``num_returns`` below 1 or above the length of the list; or a
            future that belongs to another event loop.
        Exception: what a coroutine raised.
    """
    check_wait(object_ids, num_returns)
    return await wait_ready(asyncio.get_running_loop(), object_ids, num_returns, seconds_from_milliseconds(timeout))


def create_group(
    return_exceptions: bool = False, keep_duplicated: bool = True, worker: object = None
) -> PlasmaFutureGroup:
    """Make an empty group of futures on the running loop, or else on ``eventloop``.

    Args:
        return_exceptions: put failures among the results, instead of failing with the first.
        keep_duplicated: let a future that is added twice count twice, instead of once.
        worker: taken for the sake of old programs.

    Raises:
        RayConnectionError: there is no session.
    """
    current_session()
    loop = asyncio._get_running_loop() or _init_eventloop()
    return PlasmaFutureGroup(loop, return_exceptions, keep_duplicated)


def run_until_complete(future: Awaitable[Any]) -> Any:
    """Run a coroutine or future on ``eventloop`` and return its result.

    Raises:
        RayConnectionError: there is no session.
        RuntimeError: this thread runs an event loop already; there ``await`` does the same.
    """
    if asyncio._get_running_loop() is not None:
        if asyncio.iscoroutine(future):
            future.close()
        raise RuntimeError("async_api.run_until_complete() was called on a running event loop; use 'await' there.")
    return _init_eventloop().run_until_complete(future)


def set_debug(enabled: bool) -> None:
    """Turn asyncio's debug mode of ``eventloop`` on or off."""
    _init_eventloop().set_debug(enabled)


def _init_eventloop(selector: str | None = None) -> PlasmaSelectorEventLoop:
    """Make ``eventloop``, unless there is one of this session.

    Args:
        selector: name of an installed selector, such as ``poll`` or ``epoll``; None takes the session's.

    Raises:
        RayConnectionError: there is no session.
        PluginError: there is no selector of that name.
    """
    global eventloop, _registered
    with _lock:
        session = current_session()
        if eventloop is not None and not eventloop.is_closed():
            if eventloop.session_id == session.session_id:
                return eventloop
            cleanup()
        eventloop = PlasmaSelectorEventLoop(make_selector(selector))
        if not _registered:
            _registered = True
            atexit.register(_clean_up_at_exit)
        return eventloop


def cleanup() -> None:
    """Cancel what is left on ``eventloop``, and close it; the next use makes another. Without one it does nothing.

    Raises:
        RuntimeError: it is running.
    """
    global eventloop
    with _lock:
        loop = eventloop
        if loop is None or loop.is_closed():
            eventloop = None
            return
        if loop.is_running() or asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "async_api.cleanup() cannot close the event loop while it, or another one here, is running."
            )
        eventloop = None
        try:
            loop.run_until_complete(wind_up(WIND_UP_S))
        finally:
            loop.close()


def _clean_up_at_exit() -> None:
    if eventloop is not None and not eventloop.is_running():
        cleanup()


#: In a forked child: the loop of its parent. To let go of it would close it, and take the parent's sockets from the
#: kernel's selector, which both share.
_parents_loop: PlasmaSelectorEventLoop | None = None


def _forget_after_fork() -> None:
    global eventloop, handler, _lock, _parents_loop
    _parents_loop, eventloop, handler = eventloop, None, None
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


# --- futures on the program's own loop --------------------------------------------------------------------------------

#: What ``as_future`` has made and is not done; None until ``init``.
handler: weakref.WeakSet[PlasmaObjectFuture] | None = None


def init() -> None:
    """Prepare for ``as_future``, which does this itself where needed. Idempotent.

    A thread without an event loop gets ``eventloop`` as its current one, so that ``asyncio.get_event_loop()`` finds it.

    Raises:
        RayConnectionError: there is no session.
    """
    global handler
    current_session()
    if handler is None:
        handler = weakref.WeakSet()
    _current_loop()


def as_future(object_id: ray.ObjectRef[Any]) -> asyncio.Future[Any]:
    """A new future with the value, or the error, of an object.

    It belongs to the running loop, or else to the one that is set for this thread, or else to ``eventloop``. Cancelling
    it leaves the task alone.

    Raises:
        TypeError: not a reference.
        RayConnectionError: there is no session, or the reference belongs to one that has ended.
    """
    if not isinstance(object_id, ray.ObjectRef):
        raise TypeError(f"Input should be an ObjectID, not {object_id!r}.")
    runtime = session_of(object_id)
    init()
    loop = _current_loop()
    future = PlasmaObjectFuture(loop, object_id)
    if is_done(object_id) and runtime.on_disk(object_id) is None:
        _fill(future)
        return future
    assert handler is not None
    handler.add(future)
    if loop is asyncio._get_running_loop():
        _listen(future)
    else:
        loop.call_soon(_listen, future)
    return future


def _listen(future: PlasmaObjectFuture) -> None:
    """Called on the future's loop."""
    if not future.done():
        try:
            deliver(future.object_id, future)
        except ConnectionError as error:  # the session has ended since
            future.set_exception(error)


def _fill(future: PlasmaObjectFuture) -> None:
    try:
        future.set_result(value_of(future.object_id))
    except Exception as error:
        future.set_exception(error)


def shutdown() -> None:
    """Cancel every future of ``as_future`` that is not done. Idempotent; ``as_future`` may be used again afterwards."""
    global handler
    pending, handler = handler or (), None
    for future in list(pending):
        loop = future.get_loop()
        if loop.is_closed():
            continue
        if loop.is_running() and loop is not asyncio._get_running_loop():
            loop.call_soon_threadsafe(future.cancel)
        else:
            future.cancel()


def _current_loop() -> asyncio.AbstractEventLoop:
    """The running loop, the one that is set for this thread, or ``eventloop``, which is set for it then."""
    running = asyncio._get_running_loop()
    if running is not None:
        return running
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            loop = asyncio.get_event_loop()
            if not loop.is_closed():
                return loop
    except (RuntimeError, DeprecationWarning):  # there is none
        pass
    loop = _init_eventloop()
    asyncio.set_event_loop(loop)
    return loop
