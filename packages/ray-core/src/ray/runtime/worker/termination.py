"""The last call of an actor whose handles are gone."""

from __future__ import annotations

from collections.abc import Callable

from ray.protocol.last_calls import TERMINATE


class ActorEnd:
    """The call that ends an actor; implements ``ray.abc.executor.Call``."""

    group: str | None = None
    is_async = True
    in_thread = False
    name = TERMINATE

    def __init__(self, terminate: Callable[[], None], leave: Callable[[], None]) -> None:
        """Make one.

        Args:
            terminate: says that the actor ends.
            leave: called when the last call of the process has ended.
        """
        self._terminate = terminate
        self._leave = leave

    def run(self) -> None:
        """Leave the executor after what came before."""
        self._terminate()
        self._leave()

    def fail(self, error: Exception) -> None:
        """Leave all the same."""
        self.run()

    async def run_async(self) -> None:
        """As ``run``."""
        self.run()
