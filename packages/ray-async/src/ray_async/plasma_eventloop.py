"""The event loop over objects: ``ray.experimental.plasma_eventloop``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import ray
from ray.abc.selector import ObjectSelector
from ray.clock import monotonic
from ray.runtime.completion import current_session, is_done, make_selector
from ray_async.object_future import PlasmaObjectFuture
from ray_async.object_loop import ObjectEventLoop
from ray_async.polled_objects import PolledObjects
from ray_async.selectors import EpollSelector
from ray_async.waiting import check_wait, get_values, wait_ready

__all__ = ["PlasmaEpoll", "PlasmaObjectFuture", "PlasmaSelectorEventLoop"]

#: Objects completed in one turn of the loop: what is due besides need not wait for thousands.
KEYS_PER_TURN = 32


class PlasmaEpoll(EpollSelector):
    """The selector ``epoll`` by the name that the specification gives it."""

    def __init__(self, worker: object = None) -> None:
        """Make a selector; ``worker`` is taken for the sake of old programs: each ref leads to its session."""
        super().__init__()


class PlasmaSelectorEventLoop(asyncio.SelectorEventLoop, ObjectEventLoop):
    """asyncio's event loop with an object selector in it: objects complete its futures as sockets do.

    Sockets, other threads, subprocesses and signals are served as in any loop of asyncio. With a selector that has a
    descriptor (``epoll``) an idle loop sleeps; with one that has none (``poll``) it looks after sockets every 10 ms
    while objects are awaited, and spends at most a tenth of its time on that.
    """

    #: Until asyncio's part is made: its destructor asks.
    _closed = True

    def __init__(self, selector: ObjectSelector | None = None, worker: object = None) -> None:
        """Make a loop; nothing of asyncio's refers to it until it runs.

        Args:
            selector: a new one of this loop's own, which closes it; None makes that of the session.
            worker: taken for the sake of old programs.

        Raises:
            RayConnectionError: there is no session.
            TypeError: not a selector over objects.
        """
        self.session_id = current_session().session_id
        objects = make_selector() if selector is None else selector
        if not isinstance(objects, ObjectSelector):
            raise TypeError(f"selector must be a selector over objects, such as PlasmaEpoll(), not {objects!r}")
        self._objects = objects
        #: {object id: the one future of this loop for it}; what they wait for is registered with the selector.
        self._awaited: dict[bytes, PlasmaObjectFuture] = {}
        descriptor = objects.fileno()
        self._polled: PolledObjects | None = None
        if descriptor is None:
            self._polled = PolledObjects(objects)
            descriptor = self._polled.flag.fileno()
        super().__init__(self._polled)
        self.add_reader(descriptor, self._take)

    def time(self) -> float:
        """What timers go by: the real clock, even in a program whose tests freeze or shift time."""
        return monotonic()

    @property
    def object_selector(self) -> ObjectSelector:
        """The selector over objects."""
        return self._objects

    def object_future(self, ref: ray.ObjectRef[Any]) -> PlasmaObjectFuture:
        """The future of this loop for an object, counted once more; ``dec_refcount`` gives it back.

        It is shared: wait for it with callbacks, because to cancel it is to cancel it for all.
        """
        id = ref.binary()
        future = self._awaited.get(id)
        if future is None:
            future = _LoopFuture(self, ref)
            if is_done(ref):
                future.complete()
            else:
                self._objects.register(future)
                self._awaited[id] = future
        future.inc_refcount()
        return future

    def _take(self) -> None:
        """Some objects are ready."""
        if self._polled is not None:
            self._polled.flag.clear()
        keys = self._objects.select(0, KEYS_PER_TURN)
        for key in keys:
            self._forget(key.fileobj)
            key.fileobj.complete()
        if self._polled is not None and len(keys) == KEYS_PER_TURN:
            self._polled.flag.set()  # there may be more, and the next look may be a while away

    def _forget(self, future: PlasmaObjectFuture) -> None:
        if self._awaited.pop(future.object_id.binary(), None) is not None:
            self._objects.unregister(future)
            if self._polled is not None:
                self._polled.forget(future.object_id.binary())

    async def get(self, object_ids: Any) -> Any:
        """``async_api.get`` on this loop."""
        return await get_values(self, object_ids)

    async def wait(
        self,
        object_ids: Sequence[Any],
        num_returns: int = 1,
        timeout: float | None = None,  # noqa: ASYNC109 - the specification's
        return_exact_num: bool = True,
    ) -> tuple[list[Any], list[Any]]:
        """``async_api.wait`` on this loop, but for the unit, and for inputs that are repeated: each counts.

        Args:
            object_ids: see there.
            num_returns: see there.
            timeout: **seconds**, or None to wait for as long as it takes.
            return_exact_num: False returns all that are ready, instead of ``num_returns`` of them.
        """
        check_wait(object_ids, num_returns, unique=False)
        return await wait_ready(self, list(object_ids), num_returns, timeout, exact=return_exact_num)

    def close(self) -> None:
        """Close the loop and its selector. Idempotent.

        Raises:
            RuntimeError: it is running.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if not self.is_closed():
            self._awaited.clear()
            super().close()
            self._objects.close()


class _LoopFuture(PlasmaObjectFuture):
    """Leaves the loop's selector when it is cancelled."""

    def cancel(self, msg: Any = None) -> bool:
        if not super().cancel(msg):
            return False
        loop = self.get_loop()
        assert isinstance(loop, PlasmaSelectorEventLoop)
        loop._forget(self)
        return True
