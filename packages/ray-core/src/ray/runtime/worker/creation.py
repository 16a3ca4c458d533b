"""The first call of an actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ray.runtime.worker.actor_maker import init_of

if TYPE_CHECKING:
    from ray.messages import node
    from ray.runtime.worker.actor_maker import ActorMaker


class ActorCreation:
    """The call that runs ``__init__``; implements ``ray.abc.executor.Call``."""

    group: str | None = None
    is_async = True  # where there is a loop, it runs there
    in_thread = False

    def __init__(self, maker: ActorMaker, message: node.StartActor, guard_loop: Callable[[], None]) -> None:
        """Make one.

        Args:
            maker: makes the instance.
            message: of which actor.
            guard_loop: called by the thread of the actor's event loop, on which no call may wait from then on.
        """
        self._maker = maker
        self._message = message
        self._guard_loop = guard_loop
        self.name = init_of(message)

    def run(self) -> None:
        """Make the instance."""
        self._maker.make(self._message)

    def fail(self, error: Exception) -> None:
        """See ``Call``."""
        self._maker.failed(self._message, error)

    async def run_async(self) -> None:
        """As ``run``, on the loop, so that what ``__init__`` makes belongs to it."""
        self.run()
        self._guard_loop()
