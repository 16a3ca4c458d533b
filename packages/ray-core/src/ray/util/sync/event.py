"""``Event``: what all processes that wait for it are told of."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.steps import Limit, Steps, answer, called, checked_timeout, run, run_async
from ray.util.sync.hosting import hosted
from ray.util.sync.variable_actor import VariableActor


class Event:
    """An event like ``threading.Event``, of which every process that is given it uses the same. It can be pickled."""

    def __init__(self, *, name: str | None = None, namespace: str | None = None) -> None:
        """Make it, or find the one of that name; as a ``Semaphore``."""
        self.name = name
        #: Of a variable: the event is set while that has a value.
        self._actor: Any = hosted(VariableActor, "Event", name, namespace)

    def is_set(self) -> bool:
        """Whether it is set."""
        return ray.get(self._actor.get.remote(False)) is not None

    def set(self) -> None:
        """Set it: all who wait go on."""
        ray.get(self._actor.set.remote([None]))

    async def set_async(self) -> None:
        """``set`` for coroutines."""
        await self._actor.set.remote([None])

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
        outcome = yield from answer(self._actor, self._actor.get.remote(timeout != 0))
        if not isinstance(outcome, tuple):
            return outcome is not None
        if (yield from called(self._actor, outcome, limit)):
            return True
        self._actor.withdraw.remote(outcome[0])
        return False
