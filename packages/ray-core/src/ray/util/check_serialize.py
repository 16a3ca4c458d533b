"""``inspect_serializability``: what in a function, a class or a value cannot be sent to another process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, TextIO

from ray.api.actors import ActorClass
from ray.api.options import whole_number
from ray.api.remote_function import RemoteFunction
from ray.clock import monotonic
from ray.serialization import parts_of, why_unpicklable

__all__ = ["FailureTuple", "inspect_serializability"]

#: A search ends after so many trials or seconds; what has failed by then is what is known.
_MAX_TRIALS, _MAX_SECONDS = 10_000, 10.0
_PLAIN = (int, float, str, bytes, bool, type(None))
#: How the name of a part of a function begins, before its own in quotes.
_QUOTED = ("closure variable ", "global variable ", "default of ")


class FailureTuple:
    """A part that cannot be pickled, though all that it consists of can; or that was not looked into any further."""

    def __init__(self, obj: Any, name: str, parent: Any) -> None:
        """Note it.

        Args:
            obj: the part.
            name: of the variable, the attribute or the item.
            parent: what it is a part of; itself, where that is all.
        """
        self.obj = obj
        self.name = name
        self.parent = parent

    def __repr__(self) -> str:
        return f"FailureTuple({self.name} [obj={_shown(self.obj)}, parent={_shown(self.parent)}])"


class _Failure(FailureTuple):
    """With what the report says."""

    def __init__(self, obj: Any, name: str, parent: Any, path: tuple[str, ...], reason: str) -> None:
        super().__init__(obj, name, parent)
        self.path = path
        self.reason = reason


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: TextIO | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Find what in an object cannot be pickled, and print a report of it. No session is needed.

    Args:
        base_obj: a function, a class or any value; a function or class with ``@ray.remote`` is as it was without.
        name: what the report calls it; by default its own name.
        depth: how many steps from the object the search goes, from a function to a variable of its closure, for
            instance.
        print_file: where the report is printed; by default on ``sys.stdout``.

    Returns:
        Whether it can be pickled; and the parts to blame, each with ``obj``, ``name`` and ``parent``.

    Raises:
        TypeError, ValueError: ``depth`` is no number from 0 on.
    """
    depth = whole_number("depth", depth, least=0)
    if isinstance(base_obj, RemoteFunction):
        base_obj = base_obj._function
    elif isinstance(base_obj, ActorClass):
        base_obj = base_obj._ray_class
    title = name if name is not None else getattr(base_obj, "__qualname__", None) or _shown(base_obj)
    file = sys.stdout if print_file is None else print_file
    failures = list(_Search().failures(base_obj, title, depth))
    if not failures:
        print(f"{title} can be serialized.", file=file)
        return True, set()
    print(f"{title} cannot be serialized:", file=file)
    for failure in failures:
        where = " → ".join((*failure.path, _shown(failure.obj)))
        print(f"  {where}: {failure.reason}", file=file)
    print("Leave these out, or make them where they are used, in the task or the actor.", file=file)
    return False, set(failures)


class _Search:
    """Goes into each part that fails, once, until its trials or its time are over."""

    def __init__(self) -> None:
        self._trials = 0
        self._deadline = monotonic() + _MAX_SECONDS
        #: {id: part} of what has failed; kept, so that no id is used again.
        self._seen: dict[int, Any] = {}

    def failures(self, value: Any, title: str, depth: int) -> Iterator[_Failure]:
        reason = why_unpicklable(value)
        if reason is not None:
            self._seen[id(value)] = value
            yield from self._within(_Failure(value, title, value, (title,), reason), depth)

    def _within(self, failure: _Failure, depth: int) -> Iterator[_Failure]:
        """The parts of a failing one that are to blame, or itself."""
        is_blamed = True
        for name, part in parts_of(failure.obj) if depth else ():
            if self._trials >= _MAX_TRIALS or monotonic() > self._deadline:
                break
            if type(part) in _PLAIN:
                continue
            if id(part) in self._seen:
                is_blamed = False
                continue
            self._trials += 1
            reason = why_unpicklable(part)
            if reason is not None:
                self._seen[id(part)] = part
                is_blamed = False
                found = _Failure(part, _bare(name), failure.obj, (*failure.path, name), reason)
                yield from self._within(found, depth - 1)
        if is_blamed:
            yield failure


def _bare(name: str) -> str:
    """The name of a part as it stands in the program."""
    for beginning in _QUOTED:
        if name.startswith(beginning):
            return name[len(beginning) :].strip("'\"")
    return name.removeprefix(".")


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # the user's code
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:79] + "…"
