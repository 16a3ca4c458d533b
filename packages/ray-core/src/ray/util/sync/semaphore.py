"""``Semaphore`` and ``Lock``: at most so many at a time, or one, of all processes together."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import ray
from ray.api.options import whole_number
from ray.util.steps import Limit, Steps, answer, called, checked_timeout, run, run_async
from ray.util.sync.hosting import hosted
from ray.util.sync.semaphore_actor import SemaphoreActor


class Semaphore:
    """A semaphore like ``threading.BoundedSemaphore``, of which every process that is given it uses the same.

    Those who wait are served in the order in which they came. What was acquired is given back by ``release``; when the
    object that has acquired it is gone; and when the process or the node that this is in has ended, however that comes
    about. A process of which nothing is known keeps it: it is taken for ended by the verdict of its node, or of the
    cluster on the node, not by time. With ``lease_s`` it is given back after that time as well.

    It can be pickled. A copy acquires, and releases, for itself.
    """

    _kind = "Semaphore"

    def __init__(
        self,
        value: int = 1,
        *,
        name: str | None = None,
        namespace: str | None = None,
        lease_s: float | None = None,
    ) -> None:
        """Make it, or find the one of that name.

        Args:
            value: how many may have it at a time.
            name: all of a namespace who name it have the same one, also other programs of the cluster. It lasts until
                ``delete``, or as long as the cluster. One without a name lasts as long as a process has it, and not
                longer than the process that has made it.
            namespace: of the name; None is that of this session.
            lease_s: how long one may have it, in seconds. None: as long as it takes.

        Raises:
            RayConnectionError: there is no session.
            TypeError: ``value`` is no whole number.
            ValueError: ``value`` is below 1, or is not that of the one of that name; ``lease_s`` is not above zero.
        """
        value = whole_number("value", value, least=1)
        if lease_s is not None and not lease_s > 0:
            raise ValueError(f"lease_s must be above zero, not {lease_s!r}")
        self.name = name
        self.lease_s = lease_s
        self._actor: Any = hosted(SemaphoreActor, self._kind, name, namespace, value)
        #: What this object has acquired: the numbers, and the refs that show that it lives.
        self._held: list[tuple[int, ray.ObjectRef[None]]] = []

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Acquire it; False if it is not free, or was not in that time.

        Args:
            blocking: whether to wait.
            timeout: seconds to wait at most; None: as long as it takes.

        Raises:
            ValueError: ``timeout`` is negative.
            RayActorError: the actor that it lives in is dead.
        """
        return run(self._acquire(blocking, timeout))

    async def acquire_async(self, blocking: bool = True, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """``acquire`` for coroutines. Cancelled, it has not acquired it."""
        return await run_async(self._acquire(blocking, timeout))

    def release(self) -> None:
        """Give it back.

        Raises:
            RuntimeError: this object has not acquired it, or its ``lease_s`` were over: others may have it.
            RayActorError: the actor that it lives in is dead.
        """
        run(self._release())

    async def release_async(self) -> None:
        """``release`` for coroutines."""
        await run_async(self._release())

    def locked(self) -> bool:
        """Whether it is not free."""
        free: int = ray.get(self._actor.free.remote())
        return free <= 0

    def delete(self) -> None:
        """End its actor: those who have it, or wait for it, get ``RayActorError``. The name is free again."""
        ray.kill(self._actor)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        await self.acquire_async()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.release_async()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": []}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>" if self.name else f"<{type(self).__name__}>"

    def _acquire(self, blocking: bool, timeout: float | None) -> Steps[bool]:
        blocking = blocking and checked_timeout(timeout) != 0
        limit = Limit(timeout if blocking else None)
        outcome = yield from answer(self._actor, self._actor.acquire.remote(blocking, self.lease_s))
        if outcome is None:
            return False
        number, held, taken = outcome
        if not taken and not (yield from called(self._actor, (number, held), limit)):
            yield self._actor.withdraw.remote(number), None
            return False
        self._held.append((number, held[0]))
        return True

    def _release(self) -> Steps[None]:
        if not self._held:
            raise RuntimeError(f"release of {self!r}, which this object has not acquired")
        number, _ = self._held.pop()
        if not (yield self._actor.release.remote(number), None):
            raise RuntimeError(f"{self!r} was given back when its {self.lease_s:g} s were over; others may have it")


class Lock(Semaphore):
    """A lock like ``threading.Lock``: a ``Semaphore`` that one may have at a time. No second time by who has it."""

    _kind = "Lock"

    def __init__(self, *, name: str | None = None, namespace: str | None = None, lease_s: float | None = None) -> None:
        """Make it, or find the one of that name; as a ``Semaphore``."""
        super().__init__(1, name=name, namespace=namespace, lease_s=lease_s)
