"""A shard as its reader sees it: calls to the actor, some of which are made ahead."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ray.api.objects import get
from ray.exceptions import RayActorError
from ray.runtime.completion import session_of
from ray.runtime.refs.ref import ObjectRef
from ray.util.iter.transforms import Transform


class Shard(NamedTuple):
    """An actor, and what becomes of its items."""

    actor: Any
    transforms: tuple[Transform, ...] = ()

    def then(self, transform: Transform) -> Shard:
        """With one more."""
        return Shard(self.actor, (*self.transforms, transform))


class Reader:
    """Reads one shard once."""

    def __init__(
        self, shard: Shard, iteration: int, *, readers: int = 1, reader: int = 0, batch_ms: float = 0, ahead: int = 1
    ) -> None:
        self._shard = shard
        self._call = (iteration, shard.transforms, readers, reader, batch_ms / 1000, ahead == 1)
        self._has_left = False
        self._ahead = ahead
        self._calls: deque[ObjectRef[Any]] = deque()

    def ask(self) -> ObjectRef[Any]:
        """Have the next calls under way; the first of them."""
        while len(self._calls) < self._ahead:
            self._calls.append(self._shard.actor.par_iter_take.remote(*self._call))
        return self._calls[0]

    def take(self) -> tuple[list[Any], bool]:
        """What the first call came to, and whether this is the end.

        Raises:
            Exception: of what makes or transforms the items.
        """
        try:
            items, ended = get(self.ask())
        except RayActorError:  # there is nobody to tell any more
            self._has_left = True
            raise
        self._calls.popleft()
        self._has_left = ended and self._ahead == 1  # else the calls that are ahead would begin anew
        return items, ended

    def leave(self) -> None:
        """No more is wanted. Idempotent."""
        if self._has_left:
            return
        self._has_left = True
        try:
            for ref in self._calls:
                session_of(ref).cancel(ref, False, True)
            self._calls.clear()
            iteration, _, _, reader, _, _ = self._call
            self._shard.actor.par_iter_leave.options(num_returns=0).remote(iteration, reader)
        except (ConnectionError, RuntimeError):  # the session has ended, or the actor has
            pass


def read(reader: Reader) -> Iterator[Any]:
    """All items of a shard."""
    try:
        ended = False
        while not ended:
            items, ended = reader.take()
            yield from items
    finally:
        reader.leave()


def in_turn(readers: Sequence[Reader]) -> Iterator[list[Any]]:
    """One item of each shard that has more, again and again."""
    try:
        left = [(reader, deque[Any]()) for reader in readers]
        ended: set[int] = set()
        while left:
            for reader, items in left:
                if not items and id(reader) not in ended:
                    reader.ask()
            row = []
            for reader, items in left:
                while not items and id(reader) not in ended:
                    more, is_end = reader.take()
                    items.extend(more)
                    if is_end:
                        ended.add(id(reader))
                if items:
                    row.append(items.popleft())
            left = [(reader, items) for reader, items in left if items or id(reader) not in ended]
            if row:
                yield row
    finally:
        for reader in readers:
            reader.leave()


def new_iteration() -> int:
    """A number that no other iteration has, in any process."""
    return int.from_bytes(os.urandom(12), "little")
