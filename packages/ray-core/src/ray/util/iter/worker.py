"""The shard: an actor that has items, and transforms them as each iteration asks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ray.clock import monotonic
from ray.util.iter.transforms import Transform

Items = tuple[list[Any], bool]
"""Some items, and whether these are the last."""


class _Iteration:
    """One pass over the items; several readers may share it, each of which gets every so-many-th item."""

    def __init__(self, items: Iterator[Any], readers: int) -> None:
        self._items = items
        self._readers = readers
        #: What was passed over for other readers, who have not asked for it yet.
        self._waiting: list[deque[Any]] = [deque() for _ in range(readers)]
        self._left = set(range(readers))
        self._next = 0

    def take(self, reader: int, seconds: float) -> Items:
        """The next item of a reader, and those that come within so many seconds more."""
        taken: list[Any] = []
        end = monotonic() + seconds
        while True:
            if not self._fill(reader):
                return taken, True
            taken.append(self._waiting[reader].popleft())
            if monotonic() >= end:
                return taken, False

    def _fill(self, reader: int) -> bool:
        """Have an item for a reader, if there is one."""
        while not self._waiting[reader]:
            try:
                item = next(self._items)
            except StopIteration:
                return False
            if self._next in self._left:
                self._waiting[self._next].append(item)
            self._next = (self._next + 1) % self._readers
        return True

    def leave(self, reader: int) -> bool:
        """A reader asks no more; whether it was the last."""
        self._left.discard(reader)
        self._waiting[reader].clear()
        return not self._left

    def close(self) -> None:
        """Leave the items."""
        close = getattr(self._items, "close", None)
        if close is not None:
            close()


class ParallelIteratorWorker:
    """Base of actors that ``from_actors`` takes.

    An iteration is known by a number that the reader draws. It ends when all its readers have left it.
    """

    def __init__(self, item_generator: Iterable[Any] | Callable[[], Iterable[Any]], repeat: bool = False) -> None:
        """Make it.

        Args:
            item_generator: the items, or a function that makes them anew for each iteration.
            repeat: begin anew at the end, without end.
        """
        self._item_generator = item_generator
        self._repeat = repeat
        self._iterations: dict[int, _Iteration] = {}

    def par_iter_take(
        self,
        iteration: int,
        transforms: Sequence[Transform],
        readers: int,
        reader: int,
        seconds: float,
        leaves: bool,
    ) -> Items:
        """The next items of an iteration, which begins with its first call.

        Args:
            iteration: its number.
            transforms: what becomes of the items, one after the other.
            readers: how many share it.
            reader: which of them asks.
            seconds: at least one item is taken, and as many as come within this time.
            leaves: at the end the reader asks no more, without a word.
        """
        state = self._iterations.get(iteration)
        if state is None:
            source = self._source(iteration)
            for transform in transforms:
                source = iter(transform(source))
            state = self._iterations[iteration] = _Iteration(source, readers)
        try:
            items, ended = state.take(reader, seconds)
        except BaseException:
            self._iterations.pop(iteration, None)
            state.close()
            raise
        if ended and leaves:
            self.par_iter_leave(iteration, reader)
        return items, ended

    def par_iter_leave(self, iteration: int, reader: int) -> None:
        """A reader asks no more."""
        state = self._iterations.get(iteration)
        if state is not None and state.leave(reader):
            del self._iterations[iteration]
            state.close()

    def _source(self, iteration: int) -> Iterator[Any]:
        generator: Any = self._item_generator
        if isinstance(generator, Source):
            return generator.items(iteration)
        if not self._repeat:
            return iter(generator() if callable(generator) else generator)
        return _without_end(generator)


class Source:
    """Items that come from elsewhere, for each iteration anew."""

    def items(self, iteration: int) -> Iterator[Any]:
        """The items of an iteration."""
        raise NotImplementedError


def _without_end(generator: Any) -> Iterator[Any]:
    while True:
        is_empty = True
        for item in generator() if callable(generator) else generator:
            is_empty = False
            yield item
        if is_empty:  # it would go on for ever, without an item
            return
