"""How an actor is made: from what the node manager sends to the instance."""

from __future__ import annotations

import os
from _thread import get_ident
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.exceptions import RuntimeEnvSetupError
from ray.exceptions.base import is_a
from ray.messages import node
from ray.runtime.owner.unreadable import raise_unreadable
from ray.runtime.process.clean_signals import unblock_signals
from ray.runtime.worker.actor_exit import EXIT_ACTOR, ActorExit
from ray.runtime.worker.code_cache import ArgumentCache, with_dependencies
from ray.runtime.worker.own_class import name_own_class
from ray.serialization import deserialize_aligned, load_function, make_envelope

if TYPE_CHECKING:
    from ray.protocol.run_slot import RunSlot
    from ray.runtime.owner.here import Here
    from ray.runtime.worker.actor_host import ActorHost
    from ray.runtime.worker.gpus import Gpus


def init_of(message: node.StartActor) -> str:
    """What messages call the ``__init__`` of an actor."""
    return f"{message.spec.class_name}.__init__"


class ActorMaker:
    """Runs ``__init__``, and tells the node manager what came of it."""

    def __init__(
        self,
        here: Here,
        actor: ActorHost,
        slot: RunSlot,
        gpus: Gpus,
        arguments: ArgumentCache,
        blob_of: Callable[[bytes, str], Any],
        tell_node: Callable[[Any], None],
        leave: Callable[[], None],
    ) -> None:
        """Make one.

        Args:
            here: this process.
            actor: what the process is.
            slot: shared with the node manager.
            gpus: what the user's code sees of them.
            arguments: values that were sent before.
            blob_of: the value of an object with that id and owner; waits for it.
            tell_node: sends the node manager a message.
            leave: called when the last call of the process has ended.
        """
        self._here = here
        self._actor = actor
        self._slot = slot
        self._gpus = gpus
        self._arguments = arguments
        self._blob_of = blob_of
        self._tell_node = tell_node
        self._leave = leave

    def make(self, message: node.StartActor) -> None:
        """Make the instance and tell the node manager."""
        actor, spec = self._actor, message.spec
        self._slot.begin_actor()
        unblock_signals()  # a task before may have left some blocked
        if message.gpu_ids:
            self._gpus.show(message.gpu_ids)
        try:
            if actor.lack is not None:
                raise RuntimeEnvSetupError(*actor.lack)
            cls = load_function(spec.code)
            name_own_class(cls)
            blob_of = self._blob_of
            args, kwargs = _unpickled(blob_of(spec.stored, spec.address) if spec.stored else spec.args, message)
            if spec.deps:
                values = self._arguments.take(spec.deps, ())
                args, kwargs = with_dependencies(
                    (args, kwargs), spec.deps, values, lambda dependency: blob_of(dependency.id, dependency.address)
                )
            actor.creating_thread = get_ident()
            actor.instance = cls(*args, **kwargs)
            del args, kwargs
        except BaseException as problem:
            if is_a(problem, ActorExit):
                actor.announce_exit(EXIT_ACTOR)
                self._leave()
                return
            self.failed(message, problem)
        else:
            self._tell_node(node.ActorStarted(spec.id))
        finally:
            actor.creating_thread = 0

    def failed(self, message: node.StartActor, problem: BaseException) -> None:
        """There is no instance."""
        error = self._actor.failed = make_envelope(
            problem,
            function=init_of(message),
            task_id=message.spec.id,
            attempt=message.incarnation,
            pid=os.getpid(),
            node=self._here.node_id,
        )
        self._tell_node(node.ActorStarted(message.spec.id, error))


def _unpickled(data: Any, message: node.StartActor) -> Any:
    try:
        return deserialize_aligned(data)
    except BaseException as error:
        raise_unreadable(error, f"an argument of {init_of(message)}")
