"""How a ref is described to a process that gets it, with what is known of its object: the owner may be busy later."""

from __future__ import annotations

from typing import Protocol

from ray.messages import wire
from ray.protocol.references import FAILED, PENDING, READY, STORED, Maker, ObjectEntry

#: Values up to this size go along with refs.
CARRIED_BYTES = 1024


class Arguments(Protocol):
    """Of a task: those that are refs, by place or name, and the refs inside others."""

    deps: list[tuple[int | str, ObjectEntry]]
    refs: tuple[ObjectEntry, ...]


class ActorLife(Maker):
    """Whose handles an entry counts."""

    __slots__ = ("actor_id",)

    def __init__(self, actor_id: bytes) -> None:
        self.actor_id = actor_id


def describe(entry: ObjectEntry, address: str, credits: int = 0, *, near: bool = True) -> wire.Ref:
    """The ref on the wire; ``address`` is this process's, ``near`` whether the receiver has the same store.

    Not with a value that has refs inside: only its owner can hand those over.
    """
    owner = entry.owner
    if owner is not None:
        address = owner.address
    status, value = entry.status, entry.value
    if status == PENDING or entry.contained:
        return wire.Ref(entry.id, address, credits)
    if status == STORED:
        if not near:  # it asks the owner
            return wire.Ref(entry.id, address, credits)
        return wire.Ref(entry.id, address, credits, STORED, nbytes=entry.nbytes)
    if value is not None and len(value) <= CARRIED_BYTES:
        return wire.Ref(entry.id, address, credits, status, bytes(value))
    return wire.Ref(entry.id, address, credits)


def address_of_owner(entry: ObjectEntry, here: str) -> str:
    """Where to dial the owner of an object; ``here`` is this process's address."""
    return here if entry.owner is None else entry.owner.address


def handed_over(record: Arguments, receiver: bytes) -> list[ObjectEntry]:
    """Of what we only borrow, that which ``receiver`` is to hold as well, once for each place in the arguments."""
    inside = (*record.refs, *(inner for _, value in record.deps for inner in value.contained))
    return [entry for entry in inside if entry.owner is not None and entry.owner.process != receiver]


def take_note(entry: ObjectEntry, ref: wire.Ref, *, shared: bool) -> None:
    """Complete the entry of a ref that arrived, if that says enough; called under the runtime's lock."""
    if entry.status != PENDING or entry.owner is None:
        return
    if ref.status in (READY, FAILED):
        entry.table.complete(entry, ref.status, ref.value)
    elif ref.status == STORED and shared:
        entry.table.complete_stored(entry, ref.nbytes)
