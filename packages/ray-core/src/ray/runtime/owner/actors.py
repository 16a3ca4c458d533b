"""Actors from their users' side: found by name, and ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.messages import node
from ray.protocol.references import FAILED, ObjectEntry
from ray.runtime.interface import ActorCore
from ray.runtime.owner.actor_client import ActorClient

if TYPE_CHECKING:
    from ray.runtime.owner.actor_calls import ActorCalls
    from ray.runtime.owner.handles import Handles
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.host import Host
    from ray.runtime.process.node_link import NodeLink

#: An owner that does not say for so long whether its actor is held is believed to be busy.
_OWNER_S = 5.0


class Actors:
    """The actors of a session."""

    def __init__(
        self,
        here: Here,
        host: Host,
        lock: Any,
        node_link: NodeLink,
        calls: ActorCalls,
        handles: Handles,
        wait_entry: Callable[[ObjectEntry, float | None], bool],
    ) -> None:
        self._here = here
        self._host = host
        self._lock = lock
        self._node = node_link
        self._calls = calls
        self._handles = handles
        self._wait_entry = wait_entry

    def kill_actor(self, actor: ActorCore, no_restart: bool) -> None:
        """See ``Runtime``."""
        self._host.check_open()
        self._handles.adopt(actor)
        reason = "ray.kill() was called"
        with self._lock:
            client = self._calls.clients.get(actor.actor_id)
            place = None if client is None else client.callee.place
        answer = self._node.request(lambda number: node.KillActor(number, actor.actor_id, no_restart, reason), None)
        if not answer.ok:  # it died long ago
            with self._lock:
                self._calls.updated(node.ActorUpdate(actor.actor_id, "dead", 0, cause=node.ExitCause(reason=reason)))
        elif client is not None:
            with self._lock:
                self._calls.killed(client.callee, place, node.ExitCause(reason=reason) if no_restart else None)

    def get_named_actor(self, name: str, namespace: str | None) -> ActorCore:
        """See ``Runtime``."""
        self._host.check_open()
        with self._lock:  # the node manager is to know which actors this process has let go of
            self._host.collect()
        found = self._node.ask("actor", (namespace or self._here.namespace, name), None)
        core = None if found is None else self._handles.adopt_packed(*found)
        if core is None or not self._is_held(core):
            raise ValueError(
                f"Failed to look up actor with name {name!r} in namespace {namespace or self._here.namespace!r}: "
                "it does not exist, or it has died."
            )
        return core

    def _is_held(self, core: ActorCore) -> bool:
        """Whether the actor of a handle that came by name goes on: its last handle may have gone at that moment."""
        if core.life is not None:
            life = core.life._entry
            if life.owner is not None:
                self._wait_entry(life, _OWNER_S)
            with self._lock:
                if life.status == FAILED or life.freed:
                    return False
        client = core.client
        return isinstance(client, ActorClient) and not client.callee.ends
