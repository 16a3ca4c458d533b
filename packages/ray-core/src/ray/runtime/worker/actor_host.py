"""The actor that a worker has become, if it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.messages import node, wire
from ray.protocol.actors import INIT_RAISED
from ray.protocol.last_calls import TERMINATE
from ray.protocol.resources import UNIT
from ray.runtime.worker.closing import TERMINATED
from ray.runtime.worker.life import Life
from ray.runtime.worker.own_class import method_of
from ray.serialization import failed_start


class ActorHost:
    """What others in this process ask of its actor; there is none while ``id`` is empty."""

    __slots__ = (
        "_life", "_tell_node", "announced", "creating_thread", "failed", "groups", "id", "instance", "lack",
        "loop_thread", "name", "resources", "started_as",
    )  # fmt: skip

    def __init__(self, life: Life, tell_node: Callable[[Any], None]) -> None:
        self._life = life
        self._tell_node = tell_node
        self.id = b""
        self.name = ""
        self.resources: dict[str, float] = {}
        #: {concurrency group: how many of its calls run at a time}
        self.groups: Mapping[str, int] = {}
        #: What made this process an actor.
        self.started_as: node.StartActor | None = None
        self.instance: Any = None
        #: The thread that runs ``__init__``, or 0.
        self.creating_thread = 0
        #: The thread of an async actor's event loop, once there are calls that a wait there would hold up; else 0.
        self.loop_thread = 0
        #: What ``__init__`` raised, as an envelope.
        self.failed = b""
        #: Why the actor ends, once it has said so, and is never started anew.
        self.announced = ""
        #: Why it cannot be made in this process, and its node, where that is so.
        self.lack: tuple[str, str] | None = None

    def become(self, message: node.StartActor) -> None:
        """The process is an actor from now on."""
        spec = message.spec
        self.started_as = message
        self.id, self.name = spec.id, spec.class_name
        self.resources = {name: amount / UNIT for name, amount in spec.resources.items()}
        self.groups = spec.groups

    def method_of(self, task: wire.Task) -> Any:
        """The bound method that a call names."""
        name = task.function.decode()
        if self.instance is None:
            facts = {"actor_class": self.name, "actor_id": self.id, "reason": INIT_RAISED, "method": name}
            raise failed_start(facts, self.failed)
        if name == TERMINATE:
            return self.terminate
        return method_of(self.instance, name)

    def facts(self) -> dict[str, Any]:
        """What the context of its code tells."""
        facts: dict[str, Any] = {"actor_id": self.id, "resources": self.resources}
        if self.started_as is not None:
            facts["actor_name"] = self.started_as.spec.name
            facts["restarts"] = self.started_as.incarnation
        return facts

    # --- ends ---------------------------------------------------------------------------------------------------------

    def terminate(self) -> None:
        """The actor ends as it was asked to."""
        self.announce_exit(TERMINATED)

    def announce_exit(self, reason: str) -> None:
        """The actor ends after this call, by its own will."""
        self._life.exiting = self.announced = reason
        self._tell_node(node.ActorExiting(self.id, reason))

    def drop(self) -> None:
        """Let the instance's destructor run."""
        self.instance = None
