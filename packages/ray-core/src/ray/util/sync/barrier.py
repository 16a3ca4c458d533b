"""``Barrier``: all go on when all have come."""

from __future__ import annotations

import threading
from typing import Any

import ray
from ray.api.options import whole_number
from ray.util.steps import Limit, Steps, answer, called, checked_timeout, run, run_async
from ray.util.sync.barrier_actor import BarrierActor
from ray.util.sync.hosting import hosted


class BrokenBarrierError(threading.BrokenBarrierError):
    """Not all will come: one has waited too long, was cancelled, or its process has ended; or somebody has said so."""


class Barrier:
    """A barrier like ``threading.Barrier``, of which every process that is given it uses the same. It can be pickled.

    It breaks as well when a process that waits at it ends, however that comes about.
    """

    def __init__(
        self, parties: int, timeout: float | None = None, *, name: str | None = None, namespace: str | None = None
    ) -> None:
        """Make it, or find the one of that name; as a ``Semaphore``.

        Args:
            parties: how many have to come.
            timeout: of ``wait``, where that says nothing else.
            name: see ``Semaphore``.
            namespace: see ``Semaphore``.
        """
        self.name = name
        self.parties = whole_number("parties", parties, least=1)
        self.timeout = checked_timeout(timeout)
        self._actor: Any = hosted(BarrierActor, "Barrier", name, namespace, self.parties)

    @property
    def n_waiting(self) -> int:
        """How many have come, and wait."""
        waiting: int = ray.get(self._actor.state.remote())[0]
        return waiting

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        broken: bool = ray.get(self._actor.state.remote())[1]
        return broken

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all have come.

        Args:
            timeout: seconds to wait at most; then the barrier breaks. None: that of the barrier.

        Returns:
            Which of them this one is: 0 is the first that came.

        Raises:
            BrokenBarrierError: the barrier is broken, or broke meanwhile, or was reset.
            ValueError: ``timeout`` is negative.
            RayActorError: the actor that it lives in is dead.
        """
        return run(self._wait(timeout))

    async def wait_async(self, timeout: float | None = None) -> int:  # noqa: ASYNC109
        """``wait`` for coroutines. Cancelled, it breaks the barrier."""
        return await run_async(self._wait(timeout))

    def abort(self) -> None:
        """Break it: those who wait, and will, get ``BrokenBarrierError``."""
        ray.get(self._actor.abort.remote())

    def reset(self) -> None:
        """Mend it: those who wait get ``BrokenBarrierError``, those who come afterwards wait."""
        ray.get(self._actor.reset.remote())

    def delete(self) -> None:
        """End its actor: those who wait get ``RayActorError``. The name is free again."""
        ray.kill(self._actor)

    def _wait(self, timeout: float | None) -> Steps[int]:
        limit = Limit(self.timeout if timeout is None else checked_timeout(timeout))
        ticket = yield from answer(self._actor, self._actor.wait.remote())
        place: int | None = None
        if ticket is not None:
            yield from called(self._actor, ticket, limit)
            place = yield self._actor.place.remote(ticket[0]), None
        if place is None:
            raise BrokenBarrierError("The barrier is broken: not all have come, or will.")
        return place
