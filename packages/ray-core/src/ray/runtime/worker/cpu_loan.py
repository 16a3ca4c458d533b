"""The CPUs that a worker has from its lease: while its code waits, they are free, and so is what it has not started."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ray.messages import node, wire

if TYPE_CHECKING:
    from ray.runtime.worker.actor_host import ActorHost
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.giving_back import GivingBack
    from ray.runtime.worker.native_threads import NativeThreads

#: A wait shorter than this is not announced; the CPU is not given back for it.
BLOCK_GRACE_S = 0.002


class CpuLoan:
    """Tells the node manager, and the owner that holds the lease, when the code waits and when it goes on."""

    __slots__ = ("_actor", "_desk", "_giving_back", "_tell_node", "_threads", "blocked", "resources")

    def __init__(
        self,
        desk: Desk,
        actor: ActorHost,
        threads: NativeThreads,
        giving_back: GivingBack,
        tell_node: Callable[[wire.Struct], None],
    ) -> None:
        self._desk = desk
        self._actor = actor
        self._threads = threads
        self._giving_back = giving_back
        self._tell_node = tell_node
        #: Threads that wait, and one more for event loops that do.
        self.blocked = 0
        #: What the last push holds.
        self.resources: dict[str, int] | None = None

    def renew(self, resources: dict[str, int]) -> None:
        """The tasks from now on hold this."""
        self.resources = resources
        self._threads.set_for(resources)

    def enter(self) -> None:
        """A thread, or an event loop, begins to wait for long."""
        with self._desk.lock:
            self.blocked += 1
            if self.blocked == 1:
                self._tell_node(node.Blocked())
                if not self._actor.id:
                    self.give_back()

    def leave(self) -> None:
        """It goes on."""
        desk = self._desk
        with desk.lock:
            self.blocked -= 1
            if not self.blocked:
                self._tell_node(node.Resumed())
                if desk.lessee is not None and not self._actor.id:
                    desk.lessee.send(wire.Unblocked())

    def give_back(self) -> None:
        """Return what has not started to its owners, since this worker is blocked; called under the lock."""
        self._giving_back.give_back(blocked=True)
