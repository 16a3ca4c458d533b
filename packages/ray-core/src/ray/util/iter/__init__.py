"""Iterators whose shards are actors: each transforms its part where it is, and the program gathers the results."""

from ray.util.iter.local import LocalIterator
from ray.util.iter.making import from_actors, from_items, from_iterators, from_range
from ray.util.iter.parallel import ParallelIterator
from ray.util.iter.worker import ParallelIteratorWorker

__all__ = [
    "LocalIterator",
    "ParallelIterator",
    "ParallelIteratorWorker",
    "from_actors",
    "from_items",
    "from_iterators",
    "from_range",
]
