"""An actor's class as its own methods see it."""

from __future__ import annotations

import contextlib
import inspect
import types
from typing import Any


def name_own_class(cls: Any) -> None:
    """Have the decorated name, in the methods of ``cls``, mean the class: ``isinstance(self, A)``, ``super(A, self)``.

    To be called in the process of an actor of that class, after it was unpickled. The API's object behind the name
    says what takes its place.
    """
    name = getattr(cls, "__name__", None)
    members = list(vars(cls).values()) if isinstance(cls, type) else []
    for item in members:
        function = getattr(item, "__func__", item)
        function = inspect.unwrap(function) if callable(function) else None
        if not isinstance(function, types.FunctionType):
            continue
        names = function.__globals__
        if name in names:
            names[name] = _own(names[name], cls)
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            if variable == name:
                with contextlib.suppress(ValueError):  # the program has deleted the name
                    cell.cell_contents = _own(cell.cell_contents, cls)


def _own(value: object, cls: type) -> object:
    own = getattr(type(value), "_ray_own_class", None)
    return value if own is None else own(value, cls)


def method_of(instance: Any, name: str) -> Any:
    """The method ``name`` of an actor, as its class has it: an attribute of the instance may have the same name."""
    if name in getattr(instance, "__dict__", ()):
        cls = type(instance)
        found = inspect.getattr_static(cls, name, None)
        if found is not None:
            bind = getattr(type(found), "__get__", None)
            return found if bind is None else bind(found, instance, cls)
    return getattr(instance, name)
