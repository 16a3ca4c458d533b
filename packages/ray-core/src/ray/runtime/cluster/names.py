"""Names of actors in a cluster, as any node finds them: the director writes them into the control store."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ray.abc.control import ControlStore
from ray.abc.control_operations import Get
from ray.exceptions import ControlStoreError
from ray.protocol.actor_ledger import name_key
from ray.runtime.cluster.sealing import Seal

encode_named = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, bytes]).decode


class ActorNames:
    """Of one node manager, which never waits for the store."""

    def __init__(self, control: ControlStore, seal: Seal, timeout_s: float, say: Callable[[str], None]) -> None:
        """Make it.

        Args:
            control: the state of record.
            seal: of the cluster.
            timeout_s: how long a store is waited for that does not answer.
            say: for what has to be looked into.
        """
        self._control = control
        self._seal = seal
        self._timeout_s = timeout_s
        self._say = say

    def find(
        self, namespace: str, name: str, on_answer: Callable[[tuple[bytes, bytes] | ControlStoreError | None], None]
    ) -> None:
        """The id and the opaque handle of the actor that has a name; None if there is none."""
        key = name_key(namespace, name)

        def answered(value: bytes | ControlStoreError | None) -> None:
            if value is None or isinstance(value, ControlStoreError):
                on_answer(value)
                return
            content = self._seal.open(key, value)
            if content is None:
                self._say(f"what the control store has at {key!r} was not written by this cluster, and is not used")
            on_answer(None if content is None else _decode(content))

        self._control.ask(Get(key), answered, timeout_s=self._timeout_s)
