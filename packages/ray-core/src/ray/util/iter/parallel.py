"""``ParallelIterator``: what is to become of the items of several actors; nothing runs before they are gathered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar

from ray.api.actors import ActorClass
from ray.api.objects import wait
from ray.api.options import whole_number
from ray.util.iter import transforms
from ray.util.iter.local import LocalIterator
from ray.util.iter.shard import Reader, Shard, in_turn, new_iteration, read
from ray.util.iter.transforms import Transform, flatten
from ray.util.iter.worker import ParallelIteratorWorker, Source

T = TypeVar("T")


class ParallelIterator(Generic[T]):
    """Shards of items in actors. Each method gives a new iterator; the actors end with the last that uses them."""

    def __init__(self, shards: Sequence[Shard], name: str) -> None:
        self._shards = tuple(shards)
        self.name = name

    def __iter__(self) -> NoReturn:
        raise TypeError("a ParallelIterator is read by gather_sync() or gather_async(): iterate over what they return")

    def __repr__(self) -> str:
        return f"ParallelIterator[{self.name}]"

    # --- what becomes of the items, in the actors --------------------------------------------------------------------

    def transform(self, fn: Transform) -> ParallelIterator[Any]:
        """What the function makes of the iterator of each shard."""
        transforms.check_function(fn)
        return self._then(fn, ".transform()")

    def for_each(
        self, fn: Callable[[T], Any], max_concurrency: int = 1, resources: Mapping[str, Any] | None = None
    ) -> ParallelIterator[Any]:
        """Each item is what the function makes of it.

        Args:
            fn: called in the actor of the shard.
            max_concurrency: above 1: calls are tasks, of which each shard has so many under way; 0: for all its items.
            resources: options of ``ray.remote`` for these tasks.
        """
        return self._then(transforms.for_each(fn, max_concurrency, resources), ".for_each()")

    def filter(self, fn: Callable[[T], object]) -> ParallelIterator[T]:
        """The items of which the function says yes."""
        return self._then(transforms.filter_(fn), ".filter()")

    def batch(self, n: int) -> ParallelIterator[list[T]]:
        """Lists of ``n`` items of a shard; its last one may be shorter."""
        return self._then(transforms.batch(n), f".batch({n})")

    def flatten(self) -> ParallelIterator[Any]:
        """The items of items."""
        return self._then(flatten, ".flatten()")

    def combine(self, fn: Callable[[T], Iterable[Any]]) -> ParallelIterator[Any]:
        """The items of the lists that the function makes of each item."""
        return self._then(transforms.combine(fn), ".combine()")

    def local_shuffle(self, shuffle_buffer_size: int, seed: int | None = None) -> ParallelIterator[T]:
        """Each item is drawn from so many of its shard that are at hand."""
        return self._then(
            transforms.shuffle(shuffle_buffer_size, seed), f".local_shuffle({shuffle_buffer_size}, seed={seed})"
        )

    def repartition(self, num_partitions: int, batch_ms: int = 0) -> ParallelIterator[T]:
        """Share the items out to so many new actors, each shard's in turn.

        Args:
            num_partitions: how many.
            batch_ms: the new actors take as many items at a time as come within so many milliseconds, at least one.
        """
        whole_number("num_partitions", num_partitions, least=1)
        sources = [_Part(self._shards, num_partitions, place, batch_ms) for place in range(num_partitions)]
        return ParallelIterator([Shard(worker(each)) for each in sources], f"{self.name}.repartition({num_partitions})")

    # --- shards -------------------------------------------------------------------------------------------------------

    def union(self, other: ParallelIterator[Any]) -> ParallelIterator[Any]:
        """The shards of both."""
        if not isinstance(other, ParallelIterator):
            raise TypeError(f"union() needs a ParallelIterator, not {other!r}")
        return ParallelIterator((*self._shards, *other._shards), f"ParallelUnion[{self!r}, {other!r}]")

    def select_shards(self, shards_to_keep: Sequence[int]) -> ParallelIterator[T]:
        """Some of the shards, by their numbers."""
        for index in shards_to_keep:
            self._check(index)
        name = f"{self.name}.select_shards({len(shards_to_keep)} total)"
        return ParallelIterator([self._shards[index] for index in shards_to_keep], name)

    def num_shards(self) -> int:
        """How many shards there are."""
        return len(self._shards)

    def shards(self) -> list[LocalIterator[T]]:
        """An iterator for each shard; each can be sent to tasks and actors."""
        return [self.get_shard(index) for index in range(len(self._shards))]

    def get_shard(self, shard_index: int, batch_ms: int = 0, num_async: int = 1) -> LocalIterator[T]:
        """The items of one shard; can be sent to tasks and actors.

        Args:
            shard_index: its number.
            batch_ms: as ``gather_async``.
            num_async: as ``gather_async``.
        """
        self._check(shard_index)
        _check_reading(batch_ms, num_async)
        base = partial(_read_shard, self._shards[shard_index], batch_ms, num_async)
        return LocalIterator(base, name=f"{self.name}.shard[{shard_index}]")

    # --- the items ----------------------------------------------------------------------------------------------------

    def gather_sync(self, batch_ms: int = 0) -> LocalIterator[T]:
        """The items of all shards in turn: the first of each, then the second of each, ...

        Args:
            batch_ms: as ``gather_async``.
        """
        it: LocalIterator[Any] = self.batch_across_shards(batch_ms).flatten()
        it.name = f"{self!r}.gather_sync()"
        return it

    def batch_across_shards(self, batch_ms: int = 0) -> LocalIterator[list[T]]:
        """Lists of one item of each shard that has more.

        Args:
            batch_ms: as ``gather_async``.
        """
        _check_reading(batch_ms, 1)
        return LocalIterator(partial(_rows, self._shards, batch_ms), name=f"{self!r}.batch_across_shards()")

    def gather_async(self, batch_ms: int = 0, num_async: int = 1) -> LocalIterator[T]:
        """The items of all shards as they come.

        Args:
            batch_ms: take as many items from a shard at a time as come within so many milliseconds, at least one. More
                is faster, and later with the first of them.
            num_async: how many times each shard is asked ahead.
        """
        _check_reading(batch_ms, num_async)
        base = partial(_as_they_come, self._shards, batch_ms, num_async)
        return LocalIterator(base, name=f"{self!r}.gather_async()")

    def take(self, n: int) -> list[T]:
        """The first ``n`` items of ``gather_sync()``, or as many as there are."""
        return self.gather_sync().take(n)

    def show(self, n: int = 20) -> None:
        """Print the first ``n`` items of ``gather_sync()``."""
        self.gather_sync().show(n)

    def _then(self, transform: Transform, name: str) -> ParallelIterator[Any]:
        return ParallelIterator([shard.then(transform) for shard in self._shards], self.name + name)

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self._shards):
            raise ValueError(f"there is no shard {index}: there are {len(self._shards)}, from 0 on")


class _Part(Source):
    """What one new shard of ``repartition`` has."""

    def __init__(self, shards: Sequence[Shard], parts: int, part: int, batch_ms: int) -> None:
        _check_reading(batch_ms, 1)
        self._shards = shards
        self._parts = parts
        self._part = part
        self._batch_ms = batch_ms

    def items(self, iteration: int) -> Iterator[Any]:
        """The items of an iteration, which the other parts have as well."""
        readers = [
            Reader(shard, iteration, readers=self._parts, reader=self._part, batch_ms=self._batch_ms)
            for shard in self._shards
        ]
        return _first_come(readers)


def worker(items: object, repeat: bool = False) -> Any:
    """A new actor that has these items; takes no processor, so that shards may be more than there are."""
    return ActorClass(ParallelIteratorWorker, {"num_cpus": 0}).remote(items, repeat)


def _read_shard(shard: Shard, batch_ms: int, num_async: int) -> Iterator[Any]:
    return read(Reader(shard, new_iteration(), batch_ms=batch_ms, ahead=num_async))


def _rows(shards: Sequence[Shard], batch_ms: int) -> Iterator[list[Any]]:
    iteration = new_iteration()
    return in_turn([Reader(shard, iteration, batch_ms=batch_ms) for shard in shards])


def _as_they_come(shards: Sequence[Shard], batch_ms: int, num_async: int) -> Iterator[Any]:
    iteration = new_iteration()
    return _first_come([Reader(shard, iteration, batch_ms=batch_ms, ahead=num_async) for shard in shards])


def _first_come(readers: Sequence[Reader]) -> Iterator[Any]:
    try:
        left = list(readers)
        while left:
            asked = {reader.ask(): reader for reader in left}
            ready, _ = wait(list(asked), 1)
            reader = asked[ready[0]]
            left.remove(reader)
            items, ended = reader.take()
            if not ended:
                reader.ask()
                left.append(reader)  # behind the others: each has its turn
            yield from items
    finally:
        for reader in readers:
            reader.leave()


def _check_reading(batch_ms: int, num_async: int) -> None:
    whole_number("batch_ms", batch_ms, least=0)
    whole_number("num_async", num_async, least=1)
