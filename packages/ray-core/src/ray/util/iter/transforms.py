"""What can be done with the items of a shard, or of a program's iterator: functions from iterator to iterator."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

from ray.api.options import FUNCTION_NAMES, normalise, whole_number
from ray.api.remote_function import RemoteFunction
from ray.util.mapping import map as map_remotely

Transform: TypeAlias = Callable[[Iterator[Any]], Iterator[Any]]

#: As many calls as there are items, where there is to be no limit.
_ALL = 1 << 30


def for_each(
    function: Callable[[Any], Any], max_concurrency: int = 1, resources: Mapping[str, Any] | None = None
) -> Transform:
    """Each item is what the function makes of it; with ``max_concurrency`` above 1, or 0 for no limit, in tasks."""
    check_function(function)
    whole_number("max_concurrency", max_concurrency, least=0)
    if max_concurrency == 1 and not resources:
        return partial(_each, function)
    remote: Any = RemoteFunction(function, normalise(resources or {}, FUNCTION_NAMES, "for_each()"))
    return partial(_in_tasks, remote, max_concurrency or _ALL)


def _in_tasks(remote: Any, limit: int, items: Iterator[Any]) -> Iterator[Any]:
    return map_remotely(remote, items, limit=limit, chunksize=1)


def _each(function: Callable[[Any], Any], items: Iterator[Any]) -> Iterator[Any]:
    """As ``map``, which would take a StopIteration of the function for the end of the items."""
    for item in items:
        yield function(item)


def _chosen(function: Callable[[Any], object], items: Iterator[Any]) -> Iterator[Any]:
    for item in items:
        if function(item):
            yield item


def filter_(function: Callable[[Any], object]) -> Transform:
    """Items of which the function says yes."""
    check_function(function)
    return partial(_chosen, function)


def batch(size: int) -> Transform:
    """Lists of so many items; the last one may be shorter."""
    return partial(_batches, whole_number("n", size, least=1))


def _batches(size: int, items: Iterator[Any]) -> Iterator[list[Any]]:
    while taken := list(islice(items, size)):
        yield taken


def flatten(items: Iterator[Iterable[Any]]) -> Iterator[Any]:
    """The items of items."""
    for each in items:
        yield from each


def combine(function: Callable[[Any], Iterable[Any]]) -> Transform:
    """The items of the lists that the function makes of each item."""
    check_function(function)
    return partial(_combined, function)


def _combined(function: Callable[[Any], Iterable[Any]], items: Iterator[Any]) -> Iterator[Any]:
    return flatten(_each(function, items))


def shuffle(buffer_size: int, seed: int | None = None) -> Transform:
    """Each item is drawn from so many that are at hand."""
    return partial(_shuffled, whole_number("shuffle_buffer_size", buffer_size, least=1), seed)


def _shuffled(buffer_size: int, seed: int | None, items: Iterator[Any]) -> Iterator[Any]:
    draw = random.Random(seed)
    buffer: list[Any] = []
    for item in items:
        buffer.append(item)
        if len(buffer) >= buffer_size:
            yield buffer.pop(draw.randrange(len(buffer)))
    while buffer:
        yield buffer.pop(draw.randrange(len(buffer)))


def check_function(function: object) -> None:
    """Raise a TypeError where it is none."""
    if not callable(function):
        raise TypeError(f"expected a function, not {function!r}")
