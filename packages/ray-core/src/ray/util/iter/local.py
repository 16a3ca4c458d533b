"""``LocalIterator``: items that come to the program, with the same transforms."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

from ray.api.options import whole_number
from ray.util.iter import transforms
from ray.util.iter.transforms import Transform

T = TypeVar("T")


class LocalIterator(Generic[T]):
    """Items in this process, or wherever it was sent to. ``iter()`` begins anew; ``next()`` goes on."""

    def __init__(
        self,
        base_iterator: Callable[[], Iterator[Any]],
        local_transforms: Sequence[Transform] = (),
        name: str | None = None,
    ) -> None:
        """Make it; nothing is asked for yet.

        Args:
            base_iterator: makes the items, anew with each call.
            local_transforms: what becomes of them, one after the other.
            name: what ``repr`` shows.
        """
        self._base_iterator = base_iterator
        self._local_transforms = tuple(local_transforms)
        self.name = name or "unknown"
        self._current: Iterator[T] | None = None

    def __iter__(self) -> Iterator[T]:
        items = self._base_iterator()
        for transform in self._local_transforms:
            items = iter(transform(items))
        return items

    def __next__(self) -> T:
        if self._current is None:
            self._current = iter(self)
        return next(self._current)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_current": None}

    def __repr__(self) -> str:
        return f"LocalIterator[{self.name}]"

    def transform(self, fn: Transform) -> LocalIterator[Any]:
        """What the function makes of the whole iterator."""
        transforms.check_function(fn)
        return self._then(fn, ".transform()")

    def for_each(
        self, fn: Callable[[T], Any], max_concurrency: int = 1, resources: Mapping[str, Any] | None = None
    ) -> LocalIterator[Any]:
        """See ``ParallelIterator.for_each``."""
        return self._then(transforms.for_each(fn, max_concurrency, resources), ".for_each()")

    def filter(self, fn: Callable[[T], object]) -> LocalIterator[T]:
        """The items of which the function says yes."""
        return self._then(transforms.filter_(fn), ".filter()")

    def batch(self, n: int) -> LocalIterator[list[T]]:
        """Lists of ``n`` items; the last one may be shorter."""
        return self._then(transforms.batch(n), f".batch({n})")

    def flatten(self) -> LocalIterator[Any]:
        """The items of items."""
        return self._then(transforms.flatten, ".flatten()")

    def combine(self, fn: Callable[[T], Iterable[Any]]) -> LocalIterator[Any]:
        """The items of the lists that the function makes of each item."""
        return self._then(transforms.combine(fn), ".combine()")

    def shuffle(self, shuffle_buffer_size: int, seed: int | None = None) -> LocalIterator[T]:
        """Each item is drawn from so many that are at hand."""
        return self._then(transforms.shuffle(shuffle_buffer_size, seed), ".shuffle()")

    def take(self, n: int) -> list[T]:
        """The first ``n`` items, or as many as there are."""
        n = whole_number("n", n, least=0)
        items = iter(self)
        try:
            return list(islice(items, n))
        finally:
            if isinstance(items, Generator):
                items.close()

    def show(self, n: int = 20) -> None:
        """Print the first ``n`` items."""
        for item in self.take(n):
            print(item)

    def union(self, *others: LocalIterator[Any]) -> LocalIterator[Any]:
        """One item of each iterator that has more, again and again."""
        for other in others:
            if not isinstance(other, LocalIterator):
                raise TypeError(f"union() needs a LocalIterator, not {other!r}")
        name = ", ".join(map(repr, (self, *others)))
        return LocalIterator(partial(_in_turn, (self, *others)), name=f"LocalUnion[{name}]")

    def duplicate(self, n: int) -> list[LocalIterator[T]]:
        """So many iterators over one pass of this; what one has had waits for the others."""
        if whole_number("n", n, least=2):
            shared = iter(self)
        waiting: list[deque[T]] = [deque() for _ in range(n)]

        def items(place: int) -> Iterator[T]:
            while True:
                if not waiting[place]:
                    try:
                        item = next(shared)
                    except StopIteration:
                        return
                    for each in waiting:
                        each.append(item)
                yield waiting[place].popleft()

        return [LocalIterator(partial(items, place), name=f"{self.name}.duplicate[{place}]") for place in range(n)]

    def _then(self, transform: Transform, name: str) -> LocalIterator[Any]:
        return LocalIterator(self._base_iterator, (*self._local_transforms, transform), self.name + name)


def _in_turn(iterators: Sequence[LocalIterator[Any]]) -> Iterator[Any]:
    left = [iter(each) for each in iterators]
    while left:
        for items in left.copy():
            try:
                yield next(items)
            except StopIteration:
                left.remove(items)
