"""Handles of actors, as they come into a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayConnectionError
from ray.headroom import SENDING, check
from ray.messages import wire
from ray.runtime.interface import ActorCore
from ray.runtime.owner.actor_client import ActorClient
from ray.runtime.owner.handed_refs import address_of_owner
from ray.runtime.owner.ref_pickling import rebuild_ref
from ray.serialization import deserialize, serialize

if TYPE_CHECKING:
    from ray.protocol.references import ReferenceTable
    from ray.runtime.owner.actor_calls import ActorCalls
    from ray.runtime.owner.borrowing import Borrowing
    from ray.runtime.owner.here import Here


class Handles:
    """The handles of one process."""

    def __init__(
        self,
        here: Here,
        lock: Any,
        table: ReferenceTable,
        borrowing: Borrowing,
        calls: ActorCalls,
        check_open: Callable[[], None],
    ) -> None:
        """Make it.

        Args:
            here: this process.
            lock: the runtime's.
            table: of the process.
            borrowing: of the entries that count handles.
            calls: of this process.
            check_open: raises if the session has ended.
        """
        self._here = here
        self._lock = lock
        self._table = table
        self._borrowing = borrowing
        self._calls = calls
        self._check_open = check_open

    def adopt(self, core: ActorCore) -> ActorCore:
        """See ``Runtime.adopt_actor``."""
        self._client(core)
        return core

    def adopt_for_call(self, core: ActorCore) -> ActorClient:
        """The same, in a session that goes on: the way to the actor."""
        self._check_open()
        return self._client(core)

    def _client(self, core: ActorCore) -> ActorClient:
        calls, client, life = self._calls, core.client, core.life
        if client is not None and (not isinstance(client, ActorClient) or client.calls is not calls):
            raise _left_over(core)
        if life is not None and life._entry.table is not self._table:
            raise _left_over(core)
        if client is None:
            check(SENDING)
            with self._lock:
                client = core.client = calls.client(core.actor_id, core.class_name, core.is_async, watch=True)
                if life is not None:
                    calls.hold(client, life._entry)
        return client

    def adopt_packed(self, actor_id: bytes, handle: bytes) -> ActorCore:
        """A handle that came from the node manager: its hold on the actor's life is registered here."""
        core = _unpack(actor_id, handle)
        if core.life is not None:
            with self._lock:
                entry = core.life._entry
                if entry.owner is not None:
                    self._table.hand_on(entry)
                    here = self._here
                    self._borrowing.send_to_owner(entry, wire.Credit(entry.id, here.process_id, 1, here.address))
        return self.adopt(core)


def _left_over(core: ActorCore) -> RayConnectionError:
    return RayConnectionError(f"The handle of actor {core.class_name} belongs to a session that has ended.")


def pack_handle(core: ActorCore, concurrent: bool, address: str) -> bytes:
    """What ``get_actor`` gives to others; opaque to the node manager."""
    life = None
    if core.life is not None:
        life = core.life._entry.id, address_of_owner(core.life._entry, address)
    state = (core.class_name, dict(core.methods), life, core.max_task_retries, concurrent)
    return serialize(state).to_bytes()


def _unpack(actor_id: bytes, handle: bytes) -> ActorCore:
    class_name, methods, life, max_task_retries, concurrent = deserialize(handle)
    ref = None if life is None else rebuild_ref(*life)
    return ActorCore(actor_id, class_name, methods, ref, max_task_retries, concurrent)
