"""Conversations with an actor that are written once, and run by a thread or by an event loop.

A conversation is a generator. It yields what it waits for, a ref and how many seconds at most, and gets the value; or
the error is raised in it: ``GetTimeoutError`` when the time is over, whichever way it runs.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

import ray
from ray.clock import monotonic
from ray.exceptions import GetTimeoutError, ObjectLostError, OwnerDiedError, RayError
from ray.runtime.interface import current_session
from ray.util.tickets import Ticket

R = TypeVar("R")
#: A ref, and the limit of the wait for it in seconds; None: as long as it takes.
Wait: TypeAlias = tuple[ray.ObjectRef[Any], float | None]
Steps: TypeAlias = Generator[Wait, Any, R]


class Limit:
    """The time that a conversation may take."""

    __slots__ = ("_end",)

    def __init__(self, timeout_s: float | None) -> None:
        self._end = None if timeout_s is None else monotonic() + timeout_s

    def left(self) -> float | None:
        """What is left of it, in seconds; None: it has no end."""
        return None if self._end is None else max(0.0, self._end - monotonic())


def answer(actor: Any, asked: ray.ObjectRef[Any], limit_s: float | None = None) -> Steps[Any]:
    """Wait for the answer of an actor that gives tickets.

    Where the caller is interrupted, or the time is over, the actor is given back what it answers: the answer itself may
    be kept for long, by the traceback of the error.
    """
    try:
        return (yield asked, limit_s)
    except BaseException as error:
        if isinstance(error, GetTimeoutError) or not isinstance(error, RayError):  # else there is no answer
            actor.give_back.remote(asked)
        raise


def called(actor: Any, ticket: Ticket, limit: Limit) -> Steps[bool]:
    """Wait for a ticket; False if the time is over. One that is given up for another reason is withdrawn.

    The caller has the ticket until it is done with what it stands for: the actor takes it back when nobody holds it.
    """
    number, (ref,) = ticket
    try:
        yield ref, limit.left()
    except GetTimeoutError:
        return False
    except OwnerDiedError:
        yield actor.made_with.remote(), None  # raises what has become of the actor
        raise
    except BaseException:
        actor.withdraw.remote(number)
        raise
    return True


def checked_timeout(timeout: float | None) -> float | None:
    """``timeout`` of a method that waits.

    Raises:
        ValueError: it is below zero, or no number.
    """
    if timeout is not None and not timeout >= 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


def run(steps: Steps[R]) -> R:
    """Have the calling thread wait.

    Raises:
        BlockingCallError: it runs the event loop of an async actor.
    """
    send: Any = steps.send
    given: Any = None
    while True:
        try:
            ref, limit_s = send(given)
        except StopIteration as stop:
            result: R = stop.value
            return result
        finally:
            given = None  # an error that this frame had would have this frame
        try:
            send, given = steps.send, _get(ref, limit_s)
        except BaseException as error:
            send, given = steps.throw, error
        del ref  # what it stands for may be let go of before the next wait ends


async def run_async(steps: Steps[R]) -> R:
    """Have the calling coroutine wait. A cancellation is raised in the conversation as well."""
    send: Any = steps.send
    given: Any = None
    while True:
        try:
            ref, limit_s = send(given)
        except StopIteration as stop:
            result: R = stop.value
            return result
        finally:
            given = None  # an error that this frame had would have this frame
        try:
            send, given = steps.send, await _await(ref, limit_s)
        except BaseException as error:
            send, given = steps.throw, error
        del ref


def _get(ref: ray.ObjectRef[Any], limit_s: float | None) -> Any:
    try:
        return ray.get(ref, timeout=limit_s)
    except ObjectLostError:
        if limit_s is not None and current_session().is_local_mode:  # nothing else runs that could complete it
            raise GetTimeoutError(limit_s, 1, 1) from None
        raise


async def _await(ref: ray.ObjectRef[Any], limit_s: float | None) -> Any:
    if limit_s is None:
        return await ref
    import asyncio  # only those who use it need it

    if current_session().is_local_mode:
        return _get(ref, limit_s)
    late = asyncio.timeout(limit_s)
    try:
        async with late:
            return await ref
    except TimeoutError:
        if late.expired():
            raise GetTimeoutError(limit_s, 1, 1) from None
        raise
