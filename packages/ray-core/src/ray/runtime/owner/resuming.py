"""What the next attempt of a task that streams its results has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.messages import wire

if TYPE_CHECKING:
    from ray.runtime.refs.generator import Stream


def resume(stream: Stream, streamed: int) -> wire.Resume:
    """How far the attempt before has come; called under the lock."""
    stream.full = True  # it may wait at once; before the look at what is there, which the consumer takes meanwhile
    ahead = [ref._entry for ref in list(stream.refs)[:-1]]
    return wire.Resume(streamed, [entry.size() for entry in ahead])
