"""Remote tasks, actors and shared objects for Python, composed from plugins.

Importing this package loads nothing else: each name is fetched from its room when it is first used, so that the
control processes, which import only the rooms they need, stay small.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ray._version import __version__

if TYPE_CHECKING:
    from ray import actor, async_compat, cloudpickle, exceptions, experimental, runtime_context, worker
    from ray.api.actor_calls import exit_actor, get_actor, kill
    from ray.api.actor_method import ActorMethod
    from ray.api.actors import ActorClass, ActorHandle
    from ray.api.context import RuntimeContext, get_gpu_ids, get_runtime_context
    from ray.api.decorator import remote
    from ray.api.inspection import (
        available_resources,
        cluster_resources,
        error_info,
        nodes,
        show_versions,
        wait_for_nodes,
    )
    from ray.api.methods import method
    from ray.api.objects import cancel, get, put, wait
    from ray.api.remote_function import RemoteFunction
    from ray.api.session import RayContext, init, is_initialized, shutdown
    from ray.api.typed_actor import Actor
    from ray.runtime.refs.generator import ObjectRefGenerator
    from ray.runtime.refs.ref import ObjectRef
    from ray.runtime.refs.ref import ObjectRef as ObjectID
    from ray.util.mapping import map as map
    from ray.util.mapping import starmap as starmap

__all__ = [
    "Actor",
    "ActorClass",
    "ActorHandle",
    "ActorMethod",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "RayContext",
    "RemoteFunction",
    "RuntimeContext",
    "__version__",
    "actor",
    "async_compat",
    "available_resources",
    "cancel",
    "cloudpickle",
    "cluster_resources",
    "error_info",
    "exceptions",
    "exit_actor",
    "experimental",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "runtime_context",
    "show_versions",
    "shutdown",
    "wait",
    "wait_for_nodes",
    "worker",
]

#: {module: names that live there}; the same as the imports above, which are for type checkers.
_HOMES = {
    "ray.api.actor_calls": ("exit_actor", "get_actor", "kill"),
    "ray.api.actor_method": ("ActorMethod",),
    "ray.api.actors": ("ActorClass", "ActorHandle"),
    "ray.api.context": ("RuntimeContext", "get_gpu_ids", "get_runtime_context"),
    "ray.api.decorator": ("remote",),
    "ray.api.inspection": (
        "available_resources",
        "cluster_resources",
        "error_info",
        "nodes",
        "show_versions",
        "wait_for_nodes",
    ),
    "ray.api.methods": ("method",),
    "ray.api.objects": ("cancel", "get", "put", "wait"),
    "ray.api.remote_function": ("RemoteFunction",),
    "ray.api.session": ("RayContext", "init", "is_initialized", "shutdown"),
    "ray.api.typed_actor": ("Actor",),
    "ray.runtime.refs.ref": ("ObjectRef",),
    "ray.runtime.refs.generator": ("ObjectRefGenerator",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = frozenset(
    {"actor", "async_compat", "cloudpickle", "exceptions", "experimental", "runtime_context", "util", "worker"}
)
#: Packages that import modules of their own, each after those that it needs. Python imports a package while it holds
#: the lock of the module inside that was asked for. A thread that has begun with the package waits for that lock, and
#: one of the two gets a ``_DeadlockError``. So each thread begins with the packages.
_PACKAGES = ("ray.exceptions", "ray.abc", "ray.config", "ray.serialization", "ray.plugins")


if not TYPE_CHECKING:  # checkers are to see a misspelt name

    def __getattr__(name: str) -> Any:
        if name in ("exceptions", "later_names"):
            return _import(f"ray.{name}")
        if name in _MODULES or name in _HOME:
            for package in _PACKAGES:
                _import(package)
        if name in _MODULES:
            return _import(f"ray.{name}")
        if name == "ObjectID":
            value = __getattr__("ObjectRef")
        elif name in ("map", "starmap"):  # not in ``__all__``: they would hide built-in names
            value = getattr(_import("ray.util.mapping"), name)
        elif name in _HOME:
            value = getattr(_import(_HOME[name]), name)
            if name == "init":
                _load()
        else:
            hint = ""
            if not name.startswith("_"):
                from ray.config.spelling import did_you_mean

                later_names = import_module("ray.later_names")
                found = later_names.find("ray", name)
                if found is not None and found.kind == later_names.ALIAS:
                    return getattr(import_module("ray"), found.text)
                hint = later_names.sentence("ray", name) or did_you_mean(name, __all__)
            raise AttributeError(f"module 'ray' has no attribute {name!r}.{hint}")
        globals()[name] = value
        return value


class _LaterModules:
    """The last finder on ``sys.meta_path``: an import of what other releases have says what there is instead.

    Code that only looks whether there is such a module, as ``importlib.util.find_spec`` does, finds none as ever.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """What the import system asks after all other finders have found nothing."""
        place, _, last = name.rpartition(".")
        if place.partition(".")[0] == "ray" and sys._getframe(2).f_code.co_name == "_find_and_load_unlocked":
            sentence = import_module("ray.later_names").sentence(place, last)
            if sentence:
                # Without a ``name=``: ``from ray import …`` replaces the text of an error that has one.
                raise ModuleNotFoundError(f"No module named {name!r}.{sentence}")


sys.meta_path.append(_LaterModules)


def _import(module: str) -> Any:
    try:
        return import_module(module)
    except Exception as error:
        import_module("ray.exceptions.shadowed").explain(error)
        raise


def _load() -> None:
    """Import what the names here stand for, so that no finaliser or other thread finds any of it half imported.

    Generators of references take as long to import as all else together, and ``init`` itself imports them.
    """
    for name, home in _HOME.items():
        if name not in globals() and home != "ray.runtime.refs.generator":
            globals()[name] = getattr(_import(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
