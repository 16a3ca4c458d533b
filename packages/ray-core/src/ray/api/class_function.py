"""A method as it is read off an actor class: the plain function, which says what is missing where it is submitted."""

from __future__ import annotations

import functools
import sys
import types
from typing import Any


class ClassFunction:
    """Works as the function does, and travels as it; only ``A.m.remote`` is refused in a sentence of its own."""

    def __init__(self, function: types.FunctionType, class_name: str) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self._class_name = class_name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self.__wrapped__.__get__(instance, owner)

    def __getattr__(self, name: str) -> Any:
        own = vars(self)
        if name in ("remote", "options") and "_class_name" in own:
            cls, method = own["_class_name"], own["__wrapped__"].__name__
            raise AttributeError(
                f"{cls}.{method} is a function of the class {cls}, not a method of an actor, and has no {name!r}. Make "
                f"an actor first: actor = {cls}.remote(), then actor.{method}.{name}(). What {cls}.options() returns "
                "is the class, too."
            )
        return getattr(own["__wrapped__"], name)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __eq__(self, other: object) -> bool:
        return self.__wrapped__ == (other.__wrapped__ if isinstance(other, ClassFunction) else other)

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    def __reduce__(self) -> Any:
        return _as_it_is, (self.__wrapped__,)


def found_by_name(actor_class: object, cls: type) -> bool:
    """Whether the functions of ``cls`` are looked for in ``actor_class`` as they are pickled: then they must be found.

    Picklers send a function by its name if what they find by that name in its module is the function itself. Those of
    the main module, and of classes in functions, go by value.
    """
    found: Any = None if cls.__module__ == "__main__" else sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is actor_class


def _as_it_is(function: Any) -> Any:
    return function
