"""Global variables that went along with a function, and have changed since.

A function is sent once; tasks go on with the globals, helpers and modules of that moment, whatever becomes of them
here. That is said once per variable, by the call that first could have meant the new one. Looking costs some ten
nanoseconds for each variable, and nothing for functions that have none.
"""

from __future__ import annotations

import dis
import functools
import logging
import sys
import sysconfig
import types
from collections.abc import Iterator
from typing import Any

from ray.serialization import is_importable

_log = logging.getLogger("ray")
_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
#: Values that are compared, not only told apart.
_PLAIN = (int, float, complex, str, bytes, bool, type(None))
_MAX_KEPT_CHARACTERS = 1000
_MAX_LOOKED_INTO = 200
_ABSENT = object()


class Captured:
    """What to look at for one function. Keeps ids rather than values, which the program may have let go of."""

    __slots__ = ("_function", "_looks", "_watched")

    def __init__(self, function: str, watched: list[tuple[dict[str, Any], str, int, Any, str]]) -> None:
        self._function = function
        #: (namespace, name in it, id of what was there, what tells whether it was the same, what a message says)
        self._watched = watched
        #: The same, as little as a look needs.
        self._looks = [(namespace.get, name, identity) for namespace, name, identity, _, _ in watched]

    def look(self) -> None:
        """Warn of what has changed since the last look."""
        for get, name, identity in self._looks:
            if id(get(name)) != identity:
                self._tell()
                return

    def _tell(self) -> None:
        watched, self._watched = self._watched, []
        for namespace, name, identity, kept, text in watched:
            value = namespace.get(name, _ABSENT)
            if id(value) == identity:
                self._watched.append((namespace, name, identity, kept, text))
            elif kept is not _ABSENT and _kept(value) == kept:
                self._watched.append((namespace, name, id(value), kept, text))
            else:
                _log.warning("%s", text.format(function=self._function))
        self._looks = [(namespace.get, name, identity) for namespace, name, identity, _, _ in self._watched]


def captured_by(target: Any, name: str) -> Captured | None:
    """What a function or class of the program captures that may change; None if there is nothing.

    Args:
        target: the function or class.
        name: what messages call it.
    """
    try:
        watched = _watched(target)
    except Exception:  # the user's objects may answer as they like
        return None
    return Captured(name, watched) if watched else None


def _watched(target: Any) -> list[tuple[dict[str, Any], str, int, Any, str]]:
    watched: list[tuple[dict[str, Any], str, int, Any, str]] = []
    seen: set[int] = set()
    queue = list(_functions_of(target))
    while queue and len(seen) < _MAX_LOOKED_INTO:
        function = queue.pop()
        if id(function) in seen or is_importable(function):
            continue
        seen.add(id(function))
        namespace = function.__globals__
        for variable in sorted(set(_names_read(function.__code__))):
            value = namespace.get(variable, _ABSENT)
            if value is _ABSENT or value is target or getattr(value, "__wrapped__", None) is target:
                continue
            if isinstance(value, types.ModuleType):
                if _is_of_the_program(value.__name__):
                    watched.append((vars(value), "__spec__", id(value.__spec__), _ABSENT, _MODULE.format(variable)))
            elif not isinstance(value, (types.FunctionType, type)) or _is_of_the_program(value.__module__):
                watched.append((namespace, variable, id(value), _kept(value), _VARIABLE.format(variable)))
                queue += _functions_of(value)
    return watched


_VARIABLE = (
    "The global variable {!r} has changed since {{function}} was sent to workers, where its tasks go on with what it "
    "was then. Pass it as an argument, or decorate {{function}} again."
)
_MODULE = (
    "The module {!r} was loaded anew since {{function}} was sent to workers, which go on with what they have imported. "
    "Call ray.shutdown() and ray.init() to have it imported anew."
)


def _kept(value: object) -> object:
    """Equal for what is the same to a task; absent where only the identity tells."""
    if isinstance(value, _PLAIN):
        long = isinstance(value, (str, bytes)) and len(value) > _MAX_KEPT_CHARACTERS
        return hash(value) if long else (type(value), value)
    function = getattr(value, "__wrapped__", value)
    if isinstance(function, types.FunctionType):
        return function.__code__
    return _ABSENT


def _functions_of(value: object) -> Iterator[types.FunctionType]:
    """The functions that travel with a value."""
    value = getattr(value, "__wrapped__", value)
    if isinstance(value, functools.partial):
        value = value.func
    if isinstance(value, (staticmethod, classmethod, types.MethodType)):
        value = value.__func__
    if isinstance(value, types.FunctionType):
        yield value
    elif isinstance(value, type) and not is_importable(value):
        for item in vars(value).values():
            if isinstance(item, (types.FunctionType, staticmethod, classmethod)):
                yield from _functions_of(item)


def _names_read(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in _READS and isinstance(instruction.argval, str):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_read(constant)


@functools.cache
def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def _is_of_the_program(module: str | None) -> bool:
    """Whether a module is one that its author may be editing."""
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if module in ("__main__", "__mp_main__"):
        return True
    return isinstance(file, str) and not file.startswith(_libraries()) and (module or "").partition(".")[0] != "ray"
