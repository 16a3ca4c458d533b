"""What a call came to, as its caller is told: from the values it returned to what is sent and what is stored."""

from __future__ import annotations

from typing import Any, TypeAlias

from ray.ids import edition_of, stored_id
from ray.messages import wire
from ray.runtime.owner.records import return_ids
from ray.serialization import Serialized

Large: TypeAlias = list[tuple[bytes, Serialized]]
"""Values for the node's store, with the ids of their objects."""

NO_SIZES: list[int] = []
NOTHING_AWAY: list[wire.At | None] = []
NOTHING_LARGE: Large = []


class Outcome:
    """What a call came to: the blobs of its returns, with the refs inside each, or one error envelope.

    A blob is None where the value is in the node's store; ``sizes`` are told if there is one such. Until they are
    stored, these values are ``large``.
    """

    __slots__ = ("away", "blobs", "large", "ok", "refs", "retry", "sizes")

    def __init__(
        self,
        ok: bool,
        blobs: list[Any],
        refs: list[list[Any]] | None = None,
        sizes: list[int] = NO_SIZES,
        retry: bool = False,
        large: Large = NOTHING_LARGE,
        away: list[wire.At | None] = NOTHING_AWAY,
    ) -> None:
        self.ok = ok
        self.blobs = blobs
        self.refs = refs
        self.sizes = sizes
        self.retry = retry
        self.large = large
        #: Where the stored ones are, if the owner is on another node.
        self.away = away


def success(task: wire.Task, values: list[Serialized], limit: int, node: int = 0) -> Outcome:
    """The outcome of a task that returned these.

    Args:
        task: as it came.
        values: what it returned.
        limit: what is as large goes into the node's store; 0: nothing does.
        node: the number of this one, if the owner is on another node: it is told where they are then.
    """
    edition = edition_of(task.attempt) if node else 0
    blobs: list[Any] = []
    large: Large = []
    for id, value in zip(return_ids(task.id, task.num_returns), values, strict=True):
        if limit and value.nbytes >= limit:
            large.append((stored_id(id, edition), value))
            blobs.append(None)
        else:
            blobs.append(value.to_bytes())
    refs = [value.refs for value in values]
    sizes = [value.nbytes for value in values] if large else NO_SIZES
    away = NOTHING_AWAY
    if large and node:
        sized = zip(blobs, values, strict=True)
        away = [wire.At(node, value.nbytes, edition) if blob is None else None for blob, value in sized]
    return Outcome(True, blobs, refs if any(refs) else None, sizes, large=large, away=away)
