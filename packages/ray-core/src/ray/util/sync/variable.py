"""``Variable``: one value that all processes see."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import ray
from ray.util.steps import Limit, Steps, answer, called, checked_timeout, run, run_async
from ray.util.sync.hosting import hosted
from ray.util.sync.variable_actor import VariableActor

T = TypeVar("T")


class Variable(Generic[T]):
    """A value that every process which is given the variable reads and sets. It can be pickled."""

    def __init__(self, *, name: str | None = None, namespace: str | None = None) -> None:
        """Make it, without a value, or find the one of that name; as a ``Semaphore``."""
        self.name = name
        self._actor: Any = hosted(VariableActor, "Variable", name, namespace)

    def set(self, value: T) -> None:
        """Give it a value, which takes the place of the one that it has."""
        ray.get(self._actor.set.remote([value]))

    async def set_async(self, value: T) -> None:
        """``set`` for coroutines."""
        await self._actor.set.remote([value])

    def get(self, timeout: float | None = None) -> T:
        """The value; waits for the first one.

        Args:
            timeout: seconds to wait at most; None: as long as it takes.

        Raises:
            TimeoutError: it had no value in that time.
            ValueError: ``timeout`` is negative.
            RayActorError: the actor that it lives in is dead.
        """
        return run(self._get(timeout))

    async def get_async(self, timeout: float | None = None) -> T:  # noqa: ASYNC109
        """``get`` for coroutines."""
        return await run_async(self._get(timeout))

    def clear(self) -> None:
        """Take its value away: ``get`` waits for the next one."""
        ray.get(self._actor.clear.remote())

    def delete(self) -> None:
        """End its actor: those who wait get ``RayActorError``. The name is free again."""
        ray.kill(self._actor)

    def _get(self, timeout: float | None) -> Steps[T]:
        limit = Limit(checked_timeout(timeout))
        while True:
            outcome = yield from answer(self._actor, self._actor.get.remote(timeout != 0))
            if isinstance(outcome, list):
                value: T = outcome[0]
                return value
            if outcome is None:
                break
            if not (yield from called(self._actor, outcome, limit)):
                self._actor.withdraw.remote(outcome[0])
                break
        raise TimeoutError(f"The variable{f' {self.name!r}' if self.name else ''} had no value within {timeout:g} s.")
