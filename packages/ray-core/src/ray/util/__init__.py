"""What programs bring along that were written for other ways to run in parallel; each part is loaded when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ray import later_names

__all__ = [
    "ActorPool",
    "RayExecutor",
    "actor_pool",
    "as_completed",
    "dask",
    "get_node_ip_address",
    "inspect_serializability",
    "iter",
    "joblib",
    "map_unordered",
    "multiprocessing",
    "progress",
    "queue",
    "scheduling_strategies",
    "sync",
]

#: {name: module that has it}; the same as the imports below, which are for type checkers. Modules have None.
_HOMES = {
    "ActorPool": "ray.util.actor_pool",
    "RayExecutor": "ray.util.executor",
    "actor_pool": None,
    "as_completed": "ray.util.mapping",
    "dask": None,
    "get_node_ip_address": "ray.api.inspection",
    "inspect_serializability": "ray.util.check_serialize",
    "iter": None,
    "joblib": None,
    "map_unordered": "ray.util.mapping",
    "multiprocessing": None,
    "progress": "ray.util.progress_bar",
    "queue": None,
    "scheduling_strategies": None,
    "sync": None,
}

if TYPE_CHECKING:
    from ray.api.inspection import get_node_ip_address
    from ray.util import actor_pool, dask, iter, joblib, multiprocessing, queue, scheduling_strategies, sync
    from ray.util.actor_pool import ActorPool
    from ray.util.check_serialize import inspect_serializability
    from ray.util.executor import RayExecutor
    from ray.util.mapping import as_completed, map_unordered
    from ray.util.progress_bar import progress

else:

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            home = _HOMES[name]
            return import_module(f"{__name__}.{name}") if home is None else getattr(import_module(home), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{later_names.sentence(__name__, name)}")


def __dir__() -> list[str]:
    return sorted(__all__)
