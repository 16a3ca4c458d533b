"""The actors that locks and the like live in: one each, of the program, or of a namespace by name."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.tickets import OPTIONS


def hosted(cls: type, kind: str, name: str | None, namespace: str | None, *args: object) -> Any:
    """The handle of a new actor of that class; or, by a name, of the one that there is in the namespace.

    An actor with a name ends with the cluster, or where it is deleted; any other one with its last handle, or with the
    process that has made it.

    Raises:
        RayConnectionError: there is no session.
        ValueError: the one that there is was made with other arguments.
    """
    made: Any = ray.remote(cls)
    if name is None:
        if namespace is not None:
            raise ValueError(f"namespace={namespace!r} needs name=: what has no name is not found in a namespace")
        return made.options(**OPTIONS).remote(*args)
    options = OPTIONS | {
        "name": f"ray.util.sync.{kind}:{name}",
        "namespace": namespace,
        "get_if_exists": True,
        "lifetime": "detached",
    }
    handle = made.options(**options).remote(*args)
    if args:
        others = ray.get(handle.made_with.remote())
        if others != args:
            raise ValueError(f"There is a {kind} {name!r} made with {others[0]!r}; this one is to have {args[0]!r}.")
    return handle
