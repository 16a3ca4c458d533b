"""Global names that an initializer binds, for functions of the same script that arrive after it."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any


class ScriptGlobals:
    """Functions of a program's script travel by value, each with global names of its own.

    What the initializer has bound (``global model``) is lent to each function that runs after it, and what that makes
    of the names is kept. Functions of modules that the worker imports have the names of their module anyway.
    """

    def __init__(self) -> None:
        self._bound: dict[str, Any] = {}

    def run(self, initializer: Callable[..., object], initargs: Iterable[Any]) -> None:
        """Call the initializer, and note the names that it binds."""
        names = _own_names(initializer)
        if names is None:
            initializer(*initargs)
            return
        before = dict(names)
        initializer(*initargs)
        self._bound = {name: value for name, value in names.items() if name not in before or before[name] is not value}

    def lend(self, values: Iterable[object]) -> list[dict[str, Any]]:
        """Give the names to those of ``values`` that are functions; returns what ``take_back`` takes."""
        if not self._bound:
            return []
        lent = [names for value in values if (names := _own_names(value)) is not None]
        for names in lent:
            names.update(self._bound)
        return lent

    def take_back(self, lent: Iterable[dict[str, Any]]) -> None:
        """Note what has become of the names."""
        for names in lent:
            self._bound.update((name, names[name]) for name in self._bound.keys() & names.keys())


def _own_names(function: object) -> dict[str, Any] | None:
    """The global names of a function, if they are not those of a module here."""
    while isinstance(function, (partial, types.MethodType)):
        function = function.func if isinstance(function, partial) else function.__func__
    if not isinstance(function, types.FunctionType):
        return None
    names = function.__globals__
    return None if names is getattr(sys.modules.get(function.__module__), "__dict__", None) else names
