"""Cutting iterables into chunks, so that many short calls share the cost of one task, and running a chunk.

Here are no tasks: ``ray.map``, the executor, the pool and joblib submit chunks each in their own way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

from ray.api.context import get_runtime_context
from ray.api.options import whole_number
from ray.clock import perf_counter
from ray.serialization import make_envelope, open_envelope

__all__ = [
    "AIM_S",
    "MOST_ITEMS",
    "ChunkSize",
    "Outcome",
    "chunk_size",
    "cut",
    "flat",
    "results_of",
    "runner",
    "single",
    "zipped",
]

#: How long a chunk of the automatic size is to take.
AIM_S = 0.005
MOST_ITEMS = 1_000
#: A chunk has at most so many times the items of the largest that was measured: the first calls may be the shorter.
GROWTH = 16

T = TypeVar("T")


class ChunkSize:
    """How many items the next chunk has: fixed, or learned from how long chunks took."""

    def __init__(self, least: int = 1, most: int = MOST_ITEMS) -> None:
        """Make it.

        Args:
            least: the first size, and the smallest.
            most: the largest; the same as ``least`` for chunks of one size.
        """
        self._least = least
        self._most = max(least, most)
        self._measured = 0
        self._item_s = 0.0
        self.current = least

    def learn(self, items: int, seconds: float) -> None:
        """A chunk of so many items took so long: on its worker, or to be sent, if that took longer."""
        if self._least == self._most or not items:
            return
        item_s = seconds / items
        # What has become slower counts at once, what has become quicker by and by.
        self._item_s = item_s if item_s > self._item_s else (self._item_s + item_s) / 2
        self._measured = max(self._measured, items)
        fitting = int(AIM_S / self._item_s) if self._item_s else self._most
        self.current = max(self._least, min(fitting, GROWTH * self._measured, self._most))


def chunk_size(given: int | str | None, *, name: str = "chunksize") -> ChunkSize:
    """The size that a caller has asked for; "auto" and None learn it.

    Raises:
        TypeError, ValueError: neither "auto" nor a whole number of at least 1.
    """
    if given is None or given == "auto":
        return ChunkSize()
    if isinstance(given, str):
        raise ValueError(f"{name} must be a whole number or 'auto', not {given!r}")
    size = whole_number(name, given, least=1)
    return ChunkSize(size, size)


def cut(items: Iterable[T], size: ChunkSize) -> Iterator[tuple[T, ...]]:
    """Chunks of ``items`` in order, each taken when it is asked for, and as large as ``size`` says then."""
    source = iter(items)
    while chunk := tuple(islice(source, size.current)):
        yield chunk


def flat(calls: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """The arguments of a chunk for ``runner``, from those of each call."""
    widths = set(map(len, calls))
    shape: Any = widths.pop() if len(widths) == 1 and 0 not in widths else tuple(map(len, calls))
    return (shape, *chain.from_iterable(calls))


def single(items: Sequence[Any]) -> tuple[Any, ...]:
    """The same where each call has one argument, which is the item."""
    return (1, *items)


def zipped(iterables: Sequence[Iterable[Any]]) -> tuple[Iterator[Any], Callable[[Sequence[Any]], tuple[Any, ...]]]:
    """What is to be cut, where each call has one item of each iterable, and what makes arguments of a chunk of it."""
    if len(iterables) == 1:
        return iter(iterables[0]), single
    return zip(*iterables, strict=False), flat


class Outcome(NamedTuple):
    """What a chunk came to."""

    seconds: float
    results: list[Any]
    failure: bytes | None
    """Why there are no more: the envelope of an error, see ``results_of``."""


def runner(function: Callable[..., Any], name: str) -> Callable[..., Outcome]:
    """What runs a chunk on a worker; pickled as ``function`` is.

    It takes what ``single`` or ``flat`` makes of a chunk: all as arguments of its own, so that refs
    among them are replaced by their values. An error of the first call is raised; one of a later call is in the
    outcome, with the results before it.
    """
    return partial(_run, function, name)


def _run(function: Callable[..., Any], name: str, shape: int | Sequence[int], *arguments: Any) -> Outcome:
    results: list[Any] = []
    failure = None
    started = perf_counter()
    try:
        if shape == 1:
            for item in arguments:
                results.append(function(item))
        else:
            for call in _apart(shape, arguments):
                results.append(function(*call))
    except Exception as error:
        if not results:
            raise
        failure = _envelope(error, name)
    return Outcome(perf_counter() - started, results, failure)


def results_of(outcome: Outcome) -> Iterator[Any]:
    """The results of a chunk in order; then raises what has ended it, if it has failed."""
    return iter(outcome.results) if outcome.failure is None else _failing(outcome.results, outcome.failure)


def _failing(results: list[Any], failure: bytes) -> Iterator[Any]:
    yield from results
    raise open_envelope(failure)


def _apart(shape: int | Sequence[int], arguments: Sequence[Any]) -> Iterator[Sequence[Any]]:
    if isinstance(shape, int):
        for at in range(0, len(arguments), shape):
            yield arguments[at : at + shape]
        return
    at = 0
    for width in shape:
        yield arguments[at : at + width]
        at += width


def _envelope(error: BaseException, name: str) -> bytes:
    here = get_runtime_context()
    return make_envelope(
        error,
        function=name,
        task_id=bytes.fromhex(here.task_id or ""),
        attempt=here.attempt,
        pid=os.getpid(),
        node=here.node_id,
    )
