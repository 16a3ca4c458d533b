"""The async API and the object event loop, which the package ``ray-async`` provides."""

from __future__ import annotations

import functools
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from ray import later_names
from ray.exceptions import PluginNotInstalledError

__all__ = ["ActorPool", "async_api", "get", "plasma_eventloop", "queue", "signal", "wait"]

_MODULES = ("async_api", "plasma_eventloop", "queue", "signal")
_COLLECTIONS = ("get", "wait")

if TYPE_CHECKING:
    from ray.experimental import async_api, plasma_eventloop, queue, signal
    from ray.experimental.collections import get, wait
    from ray.util.actor_pool import ActorPool

#: Entry-point group that offers the modules behind the façades, one entry point for each.
GROUP = "ray.async_api"


@functools.cache
def implementation(name: str) -> Any:
    """The module behind the façade ``name``.

    Raises:
        PluginNotInstalledError: (an ImportError) no installed package offers it.
    """
    offers = entry_points(group=GROUP, name=name)
    for offer in offers:
        return offer.load()
    from ray.plugins.installing import command_for
    from ray.plugins.seams import SEAMS

    command = command_for(SEAMS["executor"].known["asyncio"])
    raise PluginNotInstalledError(
        f"ray.experimental.{name} needs the package 'ray-async'; install it: {command}",
        seam="async_api",
        plugin=name,
    )


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name == "ActorPool":
        return import_module("ray.util.actor_pool").ActorPool
    if name in _COLLECTIONS:
        return getattr(import_module(f"{__name__}.collections"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{later_names.sentence(__name__, name)}")


def __dir__() -> list[str]:
    return sorted(__all__)
