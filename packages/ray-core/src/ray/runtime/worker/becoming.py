"""How a worker becomes an actor, and how the actor ends when its handles are gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ray.messages import node
from ray.protocol.actor_entries import places_of
from ray.runtime.worker.creation import ActorCreation
from ray.runtime.worker.termination import ActorEnd

if TYPE_CHECKING:
    from ray.abc.executor import Executor
    from ray.runtime.owner.here import Here
    from ray.runtime.worker.actor_host import ActorHost
    from ray.runtime.worker.actor_maker import ActorMaker
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.native_threads import NativeThreads
    from ray.runtime.worker.process_end import ProcessEnd


class Becoming:
    """Takes what the node manager says of the actor; called by the reader under the lock."""

    def __init__(
        self,
        here: Here,
        desk: Desk,
        actor: ActorHost,
        threads: NativeThreads,
        ending: ProcessEnd,
        maker: ActorMaker,
        make_executor: Callable[[node.ActorSpec], Executor],
        guard_loop: Callable[[], None],
    ) -> None:
        """Make one.

        Args:
            here: this process.
            desk: the calls of the process.
            actor: what the process is.
            threads: of native libraries.
            ending: of the process.
            maker: makes the instance.
            make_executor: for an actor whose calls may overlap.
            guard_loop: called by the thread of the actor's event loop, on which no call may wait from then on.
        """
        self._here = here
        self._desk = desk
        self._actor = actor
        self._threads = threads
        self._ending = ending
        self._maker = maker
        self._make_executor = make_executor
        self._guard_loop = guard_loop

    def on_start_actor(self, message: node.StartActor) -> None:
        """The node manager makes this worker an actor."""
        desk, spec = self._desk, message.spec
        self._actor.become(message)
        self._threads.set_for(spec.resources)
        self._here.depth = spec.depth + 1
        old = desk.executor
        if spec.is_async or places_of(spec) > 1 or spec.groups:
            desk.run_by(self._make_executor(spec))
        desk.executor.submit(ActorCreation(self._maker, message, self._guard_loop))
        if desk.executor is not old:
            old.close()

    def on_terminate(self) -> None:
        """End after the calls received so far."""
        desk, actor, ending = self._desk, self._actor, self._ending
        desk.closing.begin()
        desk.executor.submit(ActorEnd(actor.terminate, ending.after_last_call))
        if actor.instance is not None and not (desk.running or desk.queued):
            actor.terminate()  # nothing is waited for but what may hold up the executor
            ending.begin()
