"""Locks and the like between tasks, actors and programs, wherever they run."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["Barrier", "BrokenBarrierError", "Event", "Lock", "Semaphore", "Variable"]

if TYPE_CHECKING:
    from ray.util.sync.barrier import Barrier, BrokenBarrierError
    from ray.util.sync.event import Event
    from ray.util.sync.semaphore import Lock, Semaphore
    from ray.util.sync.variable import Variable

else:
    _HOME = {
        "Barrier": "barrier",
        "BrokenBarrierError": "barrier",
        "Event": "event",
        "Lock": "semaphore",
        "Semaphore": "semaphore",
        "Variable": "variable",
    }

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
