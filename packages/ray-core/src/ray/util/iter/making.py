"""Where iterators over actors come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from ray.api.options import whole_number
from ray.util.iter.parallel import ParallelIterator, worker
from ray.util.iter.shard import Shard

T = TypeVar("T")


def from_items(items: Iterable[T], num_shards: int = 2, repeat: bool = False) -> ParallelIterator[T]:
    """Share items out to actors, one after the other.

    Args:
        items: are sent to the actors at once.
        num_shards: how many actors.
        repeat: begin anew at the end, without end.

    Raises:
        RayConnectionError: there is no session.
        TypeError, ValueError: an argument that is wrong.
    """
    whole_number("num_shards", num_shards, least=1)
    given = list(items)
    kind = type(given[0]).__name__ if given else "None"
    shards = [given[place::num_shards] for place in range(num_shards)]
    return from_iterators(shards, repeat, _name(f"from_items[{kind}, {len(given)}", num_shards, repeat))


def from_range(n: int, num_shards: int = 2, repeat: bool = False) -> ParallelIterator[int]:
    """The numbers below ``n``; each actor has those between two of them.

    Args:
        n: how many.
        num_shards: how many actors.
        repeat: begin anew at the end, without end.

    Raises:
        RayConnectionError: there is no session.
        TypeError, ValueError: an argument that is wrong.
    """
    whole_number("n", n, least=0)
    whole_number("num_shards", num_shards, least=1)
    size = n // num_shards
    shards = [range(place * size, (place + 1) * size) for place in range(num_shards - 1)]
    shards.append(range((num_shards - 1) * size, n))
    return from_iterators(shards, repeat, _name(f"from_range[{n}", num_shards, repeat))


def from_iterators(
    generators: Iterable[Iterable[T] | Callable[[], Iterable[T]]], repeat: bool = False, name: str | None = None
) -> ParallelIterator[T]:
    """An actor for each of several iterables.

    Args:
        generators: each is sent to its actor; what cannot be sent, such as a generator, is given as the function that
            makes it there.
        repeat: begin anew at the end, without end.
        name: what ``repr`` shows.

    Raises:
        RayConnectionError: there is no session.
        TypeError: one of them cannot be sent.
    """
    given = list(generators)
    for each in given:
        if not callable(each) and not isinstance(each, Iterable):
            raise TypeError(f"expected iterables, or functions that make them, not {each!r}")
    shards = [Shard(worker(each, repeat)) for each in given]
    return ParallelIterator(shards, name or _name("from_iterators[", len(shards), repeat).replace("[, ", "["))


def from_actors(actors: Sequence[Any], name: str | None = None) -> ParallelIterator[Any]:
    """An iterator over the items of actors that there are already.

    Args:
        actors: handles of actors whose classes are derived from ``ParallelIteratorWorker``.
        name: what ``repr`` shows.

    Raises:
        TypeError: one of them is no such actor.
    """
    for actor in actors:
        if not hasattr(actor, "par_iter_take"):
            raise TypeError(f"the class of an actor has to be derived from ParallelIteratorWorker: {actor!r}")
    return ParallelIterator([Shard(actor) for actor in actors], name or f"from_actors[shards={len(actors)}]")


def _name(beginning: str, num_shards: int, repeat: bool) -> str:
    return f"{beginning}, shards={num_shards}{', repeat=True' if repeat else ''}]"
