"""Where the calls of an executor run: as tasks."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from ray.api.objects import cancel
from ray.api.options import FUNCTION_NAMES, Given, normalise
from ray.api.remote_function import RemoteFunction
from ray.protocol.resources import UNIT
from ray.runtime.interface import FunctionDescriptor
from ray.runtime.refs.ref import ObjectRef
from ray.util.executor.futures import Call, Place

#: Functions that are sent once, and named from then on.
KEPT_FUNCTIONS = 64


def run(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """What a task runs whose function goes along with each call."""
    return function(*args, **kwargs)


class TaskPlaces:
    """Each call is a task. Implements ``Places`` and ``Place``: one place, with room for all."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Make it.

        Raises:
            TypeError, ValueError: an option that no task has.
        """
        self._given: Given = {"max_retries": 0, **normalise(options, FUNCTION_NAMES - {"num_returns"}, "an executor")}
        self._run = RemoteFunction(run, self._given)
        self._kept: dict[Any, RemoteFunction[Any]] = {}

    def find(self) -> Place:
        """See ``Places``."""
        return self

    def submit(self, call: Call) -> ObjectRef[Any]:
        """See ``Place``."""
        function: Any = call.function
        if type(function) is not RemoteFunction:
            kept = self._kept.get(function) if type(function) is types.FunctionType else None
            if kept is None:
                kept = self._keep(function)
                if kept is None:
                    return self._run.remote(function, *call.args, **call.kwargs)
            function = kept
        return function.remote(*call.args, **call.kwargs)  # type: ignore[no-any-return]

    def free(self) -> None:
        """See ``Place``."""

    def prepared(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """``function`` as it is to be given to ``submit`` where it runs many calls."""
        descriptor: FunctionDescriptor[Any] = FunctionDescriptor(function)
        descriptor.name = name
        return RemoteFunction(function, self._given, descriptor=descriptor)  # type: ignore[return-value]

    @staticmethod
    def end(refs: list[ObjectRef[Any]]) -> None:
        """End the calls that make these objects, and the processes in which they run."""
        cancel(refs, force=True)

    def close(self) -> None:
        """Let go of the functions."""
        self._kept.clear()

    def _keep(self, function: Callable[..., Any]) -> RemoteFunction[Any] | None:
        """Have it sent once, if it is one of a module: of those, unlike closures, there are not ever more.

        Workers keep for good what is sent so. What has a state, as objects and bound methods do, is sent as it is then.
        """
        if type(function) is not types.FunctionType or not is_of_module(function):
            return None
        if len(self._kept) >= KEPT_FUNCTIONS:
            self._kept.clear()
        kept = self._kept[function] = RemoteFunction(function, self._given)
        return kept


def shared_out(options: dict[str, Any], cpus: float, calls: int) -> dict[str, Any]:
    """Options with the ``num_cpus`` with which so many calls run at a time: rounded down, so that all of them do."""
    if calls <= cpus or "num_cpus" in options:
        return options
    return {**options, "num_cpus": math.floor(cpus * UNIT / calls) / UNIT}


def is_of_module(function: types.FunctionType) -> bool:
    """Whether its module has it by its name."""
    found: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is function
