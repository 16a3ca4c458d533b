"""The name by which programs of later releases find what says where tasks run."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ray import later_names

__all__ = ["scheduling_strategies"]

if TYPE_CHECKING:
    from ray.util import scheduling_strategies

else:

    def __getattr__(name: str) -> Any:
        if name in __all__:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{later_names.sentence(__name__, name)}")


def __dir__() -> list[str]:
    return sorted(__all__)
