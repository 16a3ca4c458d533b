"""Names of actors in a cluster: whoever writes one first into the control store has it, until its actor is dead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from ray.abc.control import ControlStore
from ray.abc.control_operations import Claim, Get, Keys
from ray.exceptions import ControlStoreError
from ray.ids import node_number
from ray.messages.node import ActorSpec

_PREFIX = "name:"

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, bytes]).decode


class ActorNames:
    """Of one node manager, which never waits for the store."""

    def __init__(self, control: ControlStore, say: Callable[[str], None]) -> None:
        self._control = control
        self._say = say

    def claim(self, spec: ActorSpec, on_answer: Callable[[str], None]) -> None:
        """Take the name of an actor; ``on_answer`` gets why it cannot have it, or an empty text."""

        def answered(answer: bool | ControlStoreError) -> None:
            if isinstance(answer, ControlStoreError):
                on_answer(f"The name {spec.name!r} cannot be claimed: {answer}")
            elif answer:
                on_answer("")
            else:
                on_answer(f"The name {spec.name!r} is already taken by a live actor in namespace {spec.namespace!r}.")

        self._control.ask(Claim(_key(spec.namespace, spec.name), None, _encode((spec.id, spec.handle))), answered)

    def free(self, namespace: str, name: str, actor: bytes) -> None:
        """An actor is dead, or about to end: another one may have its name."""
        self._control.ask(Get(_key(namespace, name)), partial(self._free_if, _key(namespace, name), actor))

    def _free_if(self, key: str, prefix: bytes, value: bytes | ControlStoreError | None) -> None:
        """Free a name if its actor's id begins with ``prefix``."""
        if isinstance(value, ControlStoreError):
            self._say(f"the name {key} of an actor that has ended may stay taken: {value}")
        elif value is not None and _decode(value)[0].startswith(prefix):
            self._control.ask(Claim(key, value, None), lambda answer: None)

    def find(self, namespace: str, name: str, on_answer: Callable[[tuple[bytes, bytes] | None], None]) -> None:
        """The id and the opaque handle of the actor that has a name; None if there is none, or no answer."""

        def answered(value: bytes | ControlStoreError | None) -> None:
            on_answer(None if value is None or isinstance(value, ControlStoreError) else _decode(value))

        self._control.ask(Get(_key(namespace, name)), answered)

    def node_dead(self, node: bytes) -> None:
        """A node is dead, and with it the actors that it kept: their names are free. For the director."""

        def listed(keys: Sequence[str] | ControlStoreError) -> None:
            if isinstance(keys, ControlStoreError):
                self._say(f"names of actors of node {node_number(node):08x} may stay taken: {keys}")
                return
            for key in keys:
                self._control.ask(Get(key), partial(self._free_if, key, node))

        self._control.ask(Keys(_PREFIX), listed)


def _key(namespace: str, name: str) -> str:
    """Namespaces and names may hold any character, a colon as well."""
    return f"{_PREFIX}{len(namespace)}:{namespace}:{name}"
