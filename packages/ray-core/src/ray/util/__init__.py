"""The name by which programs of other releases find where this node is, and what says where tasks run."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ray import later_names

__all__ = ["get_node_ip_address", "scheduling_strategies"]

if TYPE_CHECKING:
    from ray.api.inspection import get_node_ip_address
    from ray.util import scheduling_strategies

else:

    def __getattr__(name: str) -> Any:
        if name == "get_node_ip_address":
            return import_module("ray.api.inspection").get_node_ip_address
        if name in __all__:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{later_names.sentence(__name__, name)}")


def __dir__() -> list[str]:
    return sorted(__all__)
