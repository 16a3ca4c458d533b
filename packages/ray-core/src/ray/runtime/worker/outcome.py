"""What a call came to, as its caller is told: from the values it returned to what is sent and what is stored."""

from __future__ import annotations

from typing import Any, TypeAlias

from ray.messages import wire
from ray.protocol.references import LARGE_BYTES
from ray.runtime.owner.records import return_ids
from ray.serialization import Serialized

Large: TypeAlias = list[tuple[bytes, Serialized]]
"""Values for the node's store, with the ids of their objects."""

NO_SIZES: list[int] = []
NOTHING_LARGE: Large = []


class Outcome:
    """What a call came to: the blobs of its returns, with the refs inside each, or one error envelope.

    A blob is None where the value is in the node's store; ``sizes`` are told if there is one such. Until they are
    stored, these values are ``large``.
    """

    __slots__ = ("blobs", "large", "ok", "refs", "retry", "sizes")

    def __init__(
        self,
        ok: bool,
        blobs: list[Any],
        refs: list[list[Any]] | None = None,
        sizes: list[int] = NO_SIZES,
        retry: bool = False,
        large: Large = NOTHING_LARGE,
    ) -> None:
        self.ok = ok
        self.blobs = blobs
        self.refs = refs
        self.sizes = sizes
        self.retry = retry
        self.large = large


def success(task: wire.Task, values: list[Serialized], *, shared: bool) -> Outcome:
    """The outcome of a task that returned these; ``shared``: what is large goes into the store, the caller's too."""
    blobs: list[Any] = []
    large: Large = []
    for id, value in zip(return_ids(task.id, task.num_returns), values, strict=True):
        if shared and value.nbytes >= LARGE_BYTES:
            large.append((id, value))
            blobs.append(None)
        else:
            blobs.append(value.to_bytes())
    refs = [value.refs for value in values]
    sizes = [value.nbytes for value in values] if large else NO_SIZES
    return Outcome(True, blobs, refs if any(refs) else None, sizes, large=large)
