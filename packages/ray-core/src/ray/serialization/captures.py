"""What a function brings along, by size: for a warning that names the variable."""

from __future__ import annotations

import types
from typing import Any

from ray.serialization.pickling import is_importable, pickled_nbytes


def largest_captures(fn: Any) -> list[tuple[str, int]]:
    """The variables that are pickled with a function or class, largest first.

    Args:
        fn: a function, method, partial or class; what is importable by name captures nothing.

    Returns:
        Names as in the source (closure and global variables, defaults, class attributes) with their pickled size in
        bytes; what cannot be pickled is left out.
    """
    sizes: dict[str, int] = {}
    for name, value in _captures(fn):
        nbytes = pickled_nbytes(value)
        if nbytes is not None and nbytes > sizes.get(name, 0):
            sizes[name] = nbytes
    return sorted(sizes.items(), key=lambda item: item[1], reverse=True)


def _captures(fn: Any) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    queue, seen = [fn], set[int]()
    while queue:
        item = queue.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, (types.FunctionType, type)) and is_importable(item):
            continue
        if isinstance(item, types.MethodType):
            queue.append(item.__func__)
            found.append(("self", item.__self__))
        elif isinstance(item, (staticmethod, classmethod)):
            queue.append(item.__func__)
        elif isinstance(item, type):
            for name, value in vars(item).items():
                if isinstance(value, (types.FunctionType, staticmethod, classmethod)):
                    queue.append(value)
                elif not name.startswith("__") and not isinstance(value, types.GetSetDescriptorType):
                    found.append((name, value))
        elif isinstance(item, types.FunctionType):
            variables = _variables(item)
            found += variables
            # A helper that travels by value brings its own variables along.
            queue += [value for _, value in variables if isinstance(value, types.FunctionType)]
        elif hasattr(item, "func") and hasattr(item, "keywords"):
            queue.append(item.func)
            found += [(f"argument {i}", value) for i, value in enumerate(item.args)]
            found += list(item.keywords.items())
    return [(name, value) for name, value in found if not isinstance(value, (types.ModuleType, types.FunctionType))]


def _variables(function: types.FunctionType) -> list[tuple[str, Any]]:
    found = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            found.append((name, cell.cell_contents))
        except ValueError:
            continue  # Not assigned yet.
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        found += [(name, function.__globals__[name]) for name in code.co_names if name in function.__globals__]
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    defaults = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    found += list(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    found += list((function.__kwdefaults__ or {}).items())
    return found
