"""``Event``: what all processes that wait for it are told of."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.steps import Limit, Steps, answer, checked_timeout, run, run_async
from ray.util.sync.event_actor import EventActor
from ray.util.sync.hosting import called, hosted


class Event:
    """An event like ``threading.Event``, of which every process that is given it uses the same. It can be pickled."""

    def __init__(self, *, name: str | None = None, namespace: str | None = None) -> None:
        """Make it, or find the one of that name; as a ``Semaphore``."""
        self.name = name
        self._actor: Any = hosted(EventActor, "Event", name, namespace)

    def is_set(self) -> bool:
        """Whether it is set."""
        is_set: bool = ray.get(self._actor.is_set.remote())
        return is_set

    def set(self) -> None:
        """Set it: all who wait go on."""
        ray.get(self._actor.set.remote())

    async def set_async(self) -> None:
        """``set`` for coroutines."""
        await self._actor.set.remote()

    def clear(self) -> None:
        """Unset it."""
        ray.get(self._actor.clear.remote())

    async def clear_async(self) -> None:
        """``clear`` for coroutines."""
        await self._actor.clear.remote()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; False if it was not in that time.

        Args:
            timeout: seconds to wait at most; None: as long as it takes.

        Raises:
            ValueError: ``timeout`` is negative.
            RayActorError: the actor that it lives in is dead.
        """
        return run(self._wait(timeout))

    async def wait_async(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """``wait`` for coroutines."""
        return await run_async(self._wait(timeout))

    def delete(self) -> None:
        """End its actor: those who wait get ``RayActorError``. The name is free again."""
        ray.kill(self._actor)

    def _wait(self, timeout: float | None) -> Steps[bool]:
        limit = Limit(checked_timeout(timeout))
        ticket = yield from answer(self._actor, self._actor.wait.remote())
        if ticket is None:
            return True
        if (yield from called(self._actor, ticket, limit)):
            return True
        self._actor.withdraw.remote(ticket[0])
        return False
