"""Groups of futures that decide by a condition of their own when they are finished."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

from ray.clock import monotonic, wait_until
from ray_async.started import future_of

HaltCondition: TypeAlias = Callable[[], bool]


class PlasmaFutureGroup(asyncio.Future[list[Any]]):
    """A list of futures that is itself a future: awaiting it gives one result per child.

    It is finished when its halt condition holds, by default when all children are done. The condition is asked after
    each completion and each change of the group. A group whose children are all done is finished in any case, and so is
    one that is awaited without having any: nothing could finish it later.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, return_exceptions: bool = False, keep_duplicated: bool = True
    ) -> None:
        """Make an empty group; see ``async_api.create_group``."""
        super().__init__(loop=loop)
        #: False: the first child that fails or is cancelled makes the group fail, at once. May be changed.
        self.return_exceptions = return_exceptions
        self.keep_duplicated = keep_duplicated
        self._children: list[_Child] = []
        #: {future: how many children it is}
        self._places: Counter[asyncio.Future[Any]] = Counter()
        self._nfinished = 0
        #: Children whose completion has not been counted.
        self._outstanding = 0
        self._condition: HaltCondition = self.halt_on_all_finished
        self._awaited = False
        self._cancelled_whole = False
        self._check_due = False

    # --- children -----------------------------------------------------------------------------------------------------

    def append(self, coroutine_or_future: Awaitable[Any]) -> None:
        """Add a future as it is, a coroutine as a task, a ref as a future of its value.

        Raises:
            TypeError: it is not awaitable.
            ValueError: it belongs to another loop.
        """
        future = future_of(coroutine_or_future, self.get_loop())
        if future is not coroutine_or_future:
            future._log_destroy_pending = False  # type: ignore[attr-defined]  # the group may be dropped before its end
        if not self.keep_duplicated and future in self._places:
            return
        child = _Child(future)
        child.callback = functools.partial(self._child_done, child)
        self._children.append(child)
        self._places[future] += 1
        self._outstanding += 1
        future.add_done_callback(child.callback)

    def extend(self, iterable: Iterable[Awaitable[Any]]) -> None:
        """Append each."""
        for each in iterable:
            self.append(each)

    def pop(self, index: int = 0) -> asyncio.Future[Any]:
        """Remove a child, by default the first, and return it; it goes on. ``nfinished`` stays what it is."""
        child = self._children.pop(index)
        self._places[child.future] -= 1
        if not self._places[child.future]:
            del self._places[child.future]
        if child.callback is not None:
            child.future.remove_done_callback(child.callback)
            self._outstanding -= 1
        self._check_soon()
        return child.future

    def clear(self) -> None:
        """Remove all children."""
        while self._children:
            self.pop(-1)

    @property
    def children(self) -> list[asyncio.Future[Any]]:
        """The futures of the group, in order."""
        return [child.future for child in self._children]

    @property
    def nchildren(self) -> int:
        """How many children there are."""
        return len(self._children)

    @property
    def nfinished(self) -> int:
        """How many have finished so far; with ``return_exceptions=False`` those that failed do not count."""
        return self._nfinished

    # --- the end ------------------------------------------------------------------------------------------------------

    def halt_on_all_finished(self) -> bool:
        """The default condition: as many have finished as there are children."""
        return self._nfinished >= self.nchildren

    def halt_on_any_finished(self) -> bool:
        """At least one has finished."""
        return self._nfinished > 0

    def halt_on_some_finished(self, n: int) -> bool:
        """At least ``n`` have finished; for ``functools.partial``."""
        return self._nfinished >= n

    def set_halt_condition(self, cond: HaltCondition) -> None:
        """Decide anew when the group is finished: when ``cond()``, called on the loop, is true."""
        self._condition = cond
        self._check_soon()

    def _child_done(self, child: _Child, future: asyncio.Future[Any]) -> None:
        child.callback = None
        self._outstanding -= 1
        error: BaseException | None
        if future.cancelled():
            error = asyncio.CancelledError()
        else:
            error = future.exception()  # looked at: nobody needs to be told that it was never retrieved
        if self.done():
            return
        if error is not None and not self.return_exceptions:
            self._fail(error)
            return
        self._nfinished += 1
        self._check()

    def _check_soon(self) -> None:
        """Look at the condition on the loop's next turn, when the code that changes the group is through with it."""
        if not self._check_due and not self.done() and not self.get_loop().is_closed():
            self._check_due = True
            self.get_loop().call_soon(self._check)

    def _check(self) -> None:
        self._check_due = False
        if self.done() or not (self._children or self._awaited):
            return
        try:
            halt = not self._outstanding or self._condition()
        except Exception as error:
            self.set_exception(error)
            return
        if not halt:
            return
        if self._cancelled_whole:  # the code that awaits the group has been cancelled, and must see that
            self._fail(asyncio.CancelledError())
        else:
            self.set_result([child.outcome() for child in self._children])

    def _fail(self, error: BaseException) -> None:
        self.set_exception(error)
        if isinstance(error, asyncio.CancelledError):
            self.exception()  # nobody need ask what has been cancelled

    def add_done_callback(self, fn: Callable[[Any], object], /, **context: Any) -> None:
        """As every future's; an empty group is then finished on the loop's next turn."""
        self._awaited = True
        super().add_done_callback(fn, **context)
        if not self._children:
            self._check_soon()

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel every child, and so the group; False if there was nothing to cancel."""
        if self.done():
            return False
        cancelled = [child.future.cancel(msg) for child in self._children]
        self._cancelled_whole = self._cancelled_whole or any(cancelled)
        return any(cancelled)

    def flush_results(self) -> tuple[list[asyncio.Future[Any]], list[asyncio.Future[Any]]]:
        """Children that are done, and those that are not, each in order; at any time."""
        done = [future for future in self.children if future.done()]
        return done, [future for future in self.children if not future.done()]

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - the specification's
    ) -> tuple[list[asyncio.Future[Any]], list[asyncio.Future[Any]]]:
        """Wait until the group is finished, or the time is over; any number of times. Raises no child's error.

        Args:
            timeout: **seconds**, or None to wait for as long as it takes; 0 looks and returns.

        Returns:
            As ``flush_results``. What is not done goes on.

        Raises:
            ValueError: ``timeout`` is negative.
        """
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must not be negative, but it is {timeout!r} (seconds)")
        if self._children and timeout != 0 and not self.done():
            await wait_until(None if timeout is None else monotonic() + timeout, self)
        if self.done():
            self.exception()  # the caller looks at the children, not at the group
        return self.flush_results()


class _Child:
    """One place in a group."""

    __slots__ = ("callback", "future")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future
        #: This place's own callback, until it has been called; a future may have several places.
        self.callback: Callable[[asyncio.Future[Any]], object] | None = None

    def outcome(self) -> Any:
        """Its entry in the group's result: the value, the error, or None while it is not done."""
        if not self.future.done():
            return None
        if self.future.cancelled():
            return asyncio.CancelledError()
        return self.future.exception() or self.future.result()


def gather(
    *coroutines_or_futures: Awaitable[Any], loop: asyncio.AbstractEventLoop, return_exceptions: bool = False
) -> PlasmaFutureGroup:
    """A group of these that is finished when all are done; as ``asyncio.gather``."""
    group = PlasmaFutureGroup(loop, return_exceptions)
    group.extend(coroutines_or_futures)
    return group


async def wait(
    *coroutines_or_futures: Awaitable[Any],
    timeout: float | None = None,  # noqa: ASYNC109 - the specification's
    num_returns: int | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
    return_exceptions: bool = False,
) -> tuple[list[asyncio.Future[Any]], list[asyncio.Future[Any]]]:
    """Wait until some of these are done; as ``asyncio.wait``.

    Args:
        *coroutines_or_futures: what to wait for.
        timeout: **seconds**, or None.
        num_returns: how many to wait for; None waits for all.
        loop: the running loop, which is what None takes.
        return_exceptions: False ends the wait with the first failure.

    Returns:
        Futures that are done, and those that are not.
    """
    group = PlasmaFutureGroup(loop or asyncio.get_running_loop(), return_exceptions)
    if num_returns is not None:
        group.set_halt_condition(functools.partial(group.halt_on_some_finished, n=num_returns))
    group.extend(coroutines_or_futures)
    results = await group.wait(timeout)
    group.return_exceptions = True
    return results
