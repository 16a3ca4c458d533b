"""Actors as a director has them in its table, and as they are on record."""

from __future__ import annotations

from collections.abc import Collection

from ray.ids import node_of
from ray.messages import cluster, node
from ray.protocol.actor_entries import DEAD, PLACING, RESTARTING, STARTING, ActorEntry


def kept_of(entry: ActorEntry) -> cluster.KeptActor:
    """What is to be written of an actor."""
    spec = entry.spec
    return cluster.KeptActor(
        spec.id,
        entry.incarnation,
        entry.worker or b"",
        entry.pid,
        entry.address,
        entry.state == DEAD,
        entry.cause,
        entry.error,
        entry.exiting,
        spec.class_name,
        spec.name,
        spec.namespace,
        spec.address,
        list(entry.kills.items()),
    )


def restored(kept: cluster.KeptActor, born: cluster.BornActor) -> ActorEntry:
    """A living actor as the director before this one has left it; its host says how far it has come."""
    number = kept.incarnation
    state = STARTING if kept.process else RESTARTING if number else PLACING
    entry = ActorEntry(born.spec, born.job, born.ready, state, number, number, worker=kept.process or None)
    entry.pid, entry.address, entry.cause, entry.exiting = kept.pid, kept.address, kept.cause, kept.exiting
    entry.kills = dict(kept.kills)
    return entry


def buried(kept: cluster.KeptActor) -> ActorEntry:
    """An actor that died under an earlier director."""
    spec = node.ActorSpec(
        kept.id, kept.class_name, b"", b"", b"", kept.owner, {}, {}, b"", name=kept.name, namespace=kept.namespace
    )
    number = kept.incarnation
    return ActorEntry(spec, "", True, DEAD, number, number, cause=kept.cause, error=kept.error)


def is_new_kill(entry: ActorEntry, home: bytes, number: int, alive: Collection[bytes]) -> bool:
    """Whether the order of a home to end a process was not carried out; from here on it counts as carried out.

    It is on record with what follows from it, for as long as the home's node is alive. Orders of one home come in
    order.
    """
    if entry.kills.get(home, 0) >= number:
        return False
    entry.kills = {other: last for other, last in entry.kills.items() if node_of(other) in alive}
    entry.kills[home] = number
    return True
