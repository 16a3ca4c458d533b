"""``Queue``: first in, first out, between tasks, actors and programs, wherever they run."""

from __future__ import annotations

import datetime
import queue
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import GetTimeoutError
from ray.util.queue_actor import QueueActor
from ray.util.steps import Limit, Steps, answer, called, checked_timeout, run, run_async
from ray.util.tickets import OPTIONS

__all__ = ["Empty", "Full", "Queue"]

T = TypeVar("T")

#: A put whose actor does not answer at all says so after this time beyond its own.
PATIENCE_S = 30.0


class Empty(queue.Empty):
    """There is no item, or not as many as were asked for."""


class Full(queue.Full):
    """There is no room for an item, or for all of the batch."""


class Queue(Generic[T]):
    """A queue like ``queue.Queue``, of which every process that is given it uses the same.

    It lives in an actor of its own, which ends with the last copy of the queue. Getters and putters that wait are
    served in the order in which they came. An item goes to one getter: one that stops waiting, by its timeout, by
    cancellation, or as its process or node ends, takes none with it. An item that is on its way to a process which dies
    goes with that process.

    A method that waits holds no CPU meanwhile. On an event loop use those that end in ``_async``.
    """

    def __init__(self, maxsize: int = 0, actor_options: Mapping[str, Any] | None = None) -> None:
        """Start its actor.

        Args:
            maxsize: how many items it holds; 0 or less is without limit.
            actor_options: as of ``options()`` of an actor class, such as ``name`` or ``resources``. It needs no CPU
                unless they say so.

        Raises:
            RayConnectionError: there is no session.
            ValueError: the options are refused, or the name is taken.
        """
        self.maxsize = maxsize
        options = OPTIONS | dict(actor_options or {})
        self.actor: Any = ray.remote(QueueActor).options(**options).remote(maxsize)

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """How many items it holds; others may change that at any time."""
        size: int = ray.get(self.actor.qsize.remote())
        return size

    def qsize(self) -> int:
        """The same."""
        return self.size()

    def empty(self) -> bool:
        """Whether it holds no item."""
        empty: bool = ray.get(self.actor.empty.remote())
        return empty

    def full(self) -> bool:
        """Whether it has no room for another item."""
        full: bool = ray.get(self.actor.full.remote())
        return full

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Add an item.

        Args:
            item: what can be pickled.
            block: whether to wait for room.
            timeout: seconds to wait at most; None: as long as it takes.

        Raises:
            Full: there is no room, or was none in that time. The item is not in the queue.
            ValueError: ``timeout`` is negative.
            RayActorError: the actor of the queue is dead.
            GetTimeoutError: it has not answered for long: whether the item is in the queue is not known.
        """
        run(self._put([item], block, timeout))

    async def put_async(self, item: T, block: bool = True, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """``put`` for coroutines. Cancelled before there is room, it leaves nothing in the queue."""
        await run_async(self._put([item], block, timeout))

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Remove the first item and return it.

        Args:
            block: whether to wait for one.
            timeout: seconds to wait at most; None: as long as it takes.

        Raises:
            Empty: there is no item, or was none in that time.
            ValueError: ``timeout`` is negative.
            RayActorError: the actor of the queue is dead.
        """
        return run(self._get(1, block, timeout))[0]

    async def get_async(self, block: bool = True, timeout: float | None = None) -> T:  # noqa: ASYNC109
        """``get`` for coroutines. Cancelled, it leaves every item in the queue."""
        return (await run_async(self._get(1, block, timeout)))[0]

    def put_nowait(self, item: T) -> None:
        """``put(item, block=False)``."""
        self.put(item, block=False)

    def put_nowait_batch(self, items: Iterable[T]) -> None:
        """Add all of the items, in order, or none.

        Raises:
            Full: there is not room for all.
            TypeError: ``items`` cannot be iterated over.
        """
        if not isinstance(items, Iterable):
            raise TypeError("Argument 'items' must be an Iterable")
        run(self._put(list(items), False, None))

    def get_nowait(self) -> T:
        """``get(block=False)``."""
        return self.get(block=False)

    def get_nowait_batch(self, num_items: int) -> list[T]:
        """Remove that many items and return them, or none.

        Raises:
            Empty: there are fewer.
            TypeError: ``num_items`` is no int.
            ValueError: it is negative.
        """
        if not isinstance(num_items, int):
            raise TypeError("Argument 'num_items' must be an int")
        if num_items < 0:
            raise ValueError("'num_items' must be nonnegative")
        return run(self._get(num_items, False, None))

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the actor of the queue, with what it holds. Whoever uses it from then on gets ``RayActorError``.

        Args:
            force: at once; else when it has answered what this process has asked of it.
            grace_period_s: seconds to wait for that.
        """
        if not force:
            ray.wait([self.actor.qsize.remote()], timeout=datetime.timedelta(seconds=grace_period_s))
        ray.kill(self.actor)

    def _put(self, items: list[T], block: bool, timeout: float | None) -> Steps[None]:
        block = block and checked_timeout(timeout) != 0
        limit = Limit(timeout if block else None)
        asked = self.actor.put.remote(items, block)
        left = limit.left()
        outcome = yield from answer(self.actor, asked, None if left is None else left + PATIENCE_S)
        if outcome is None:
            return
        if not isinstance(outcome, int):
            if (yield from called(self.actor, outcome, limit)):
                return
            if not (yield self.actor.withdraw.remote(outcome[0]), None):
                return
            raise Full(f"There was no room for the item within {timeout:g} s; maxsize is {self.maxsize}.")
        raise Full(f"Cannot add {len(items)} items to queue of size {outcome} and maxsize {self.maxsize}.")

    def _get(self, wanted: int, block: bool, timeout: float | None) -> Steps[list[T]]:
        block = block and checked_timeout(timeout) != 0
        limit = Limit(timeout if block else None)
        asked, left = self.actor.get.remote(wanted, block), limit.left()
        while True:
            try:
                outcome = yield from answer(self.actor, asked, left)
            except GetTimeoutError:
                break
            if isinstance(outcome, list):
                if outcome or not wanted:
                    return outcome
                asked, left = self.actor.get.remote(wanted, block), limit.left()  # this process was taken for dead
                continue
            if isinstance(outcome, int):
                raise Empty(f"Cannot get {wanted} items from queue of size {outcome}.")
            number = outcome[0]
            if not (yield from called(self.actor, outcome, limit)):
                self.actor.withdraw.remote(number)
                break
            asked, left = self.actor.claim.remote(number), None
        raise Empty(f"There was no item within {timeout:g} s.")
