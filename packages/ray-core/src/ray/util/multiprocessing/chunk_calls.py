"""The calls of a pool that run a function on many items."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

from ray.api.objects import put
from ray.util.executor.futures import Call
from ray.util.executor.places import KEPT_FUNCTIONS, TaskPlaces, is_of_module
from ray.util.executor.workers import ActorPlaces


def run_each(function: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
    """What a worker runs for ``map``."""
    return [function(item) for item in items]  # unlike ``map``, it does not take a StopIteration for the end


def run_each_spread(function: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
    """What a worker runs for ``starmap``: each item has the arguments of a call."""
    return [function(*item) for item in items]


class ChunkCalls:
    """Makes them. The function goes along by name if the workers have it, else as an object that all calls share."""

    def __init__(self, places: TaskPlaces | ActorPlaces) -> None:
        self._places = places
        self._kept: dict[tuple[Any, bool], Callable[..., Any]] = {}

    def of(self, function: Callable[..., Any], *, spread: bool) -> Callable[[Sequence[Any]], Call]:
        """What makes the call of a chunk.

        Raises:
            UnpicklableError: the function cannot be sent.
        """
        run = run_each_spread if spread else run_each
        places = self._places
        if isinstance(places, TaskPlaces) and type(function) is types.FunctionType and is_of_module(function):
            kept = self._kept.get((function, spread))
            if kept is None:
                if len(self._kept) >= KEPT_FUNCTIONS:
                    self._kept.clear()
                kept = self._kept[function, spread] = places.prepared(_Runner(function, run), function.__name__)
            prepared = kept
            return lambda items: Call(prepared, (items,), {})
        shared = put(function)
        return lambda items: Call(run, (shared, items), {})


class _Runner:
    """``run`` with a function that goes along once."""

    def __init__(self, function: Callable[..., Any], run: Callable[..., list[Any]]) -> None:
        self._function = function
        self._run = run
        self.__name__ = function.__name__

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        return self._run(self._function, items)
