"""The class of a task's error: RayTaskError and the original type at once."""

from __future__ import annotations

import functools
import types
from typing import Any

from ray.exceptions import RayTaskError
from ray.serialization.carry import bare_exception, builtin_base, fields_of, restore


def task_error(facts: dict[str, Any], kind: type[BaseException] | None, origin: tuple[Any, ...]) -> RayTaskError:
    """An error to raise.

    Args:
        facts: keyword arguments of RayTaskError, with the original exception, if it came across, as ``cause``.
        kind: the original type or the nearest base that is known here; None for a plain RayTaskError.
        origin: a reduce value that makes this object again.
    """
    error: RayTaskError | None = None
    if kind is not None:
        try:
            error = _dual_error(kind, facts)
        except Exception:
            error = None  # A class that cannot be combined: the plain error says as much.
    if error is None:
        error = RayTaskError(**facts)
    error.__dict__["_origin"] = origin
    return error


def steers_interpreter(kind: type[BaseException]) -> bool:
    """Whether raising it is an instruction (exit, stop, cancel) to the code around, which is not the task's to give."""
    return not issubclass(kind, Exception) or issubclass(kind, (StopIteration, StopAsyncIteration))


def dual_class(kind: type[BaseException]) -> type[RayTaskError]:
    """A class that is RayTaskError and ``kind``; made once per type.

    Raises:
        TypeError: they cannot be combined. A metaclass may raise anything else.
    """
    try:
        return _cached_dual_class(kind)  # type: ignore[arg-type]
    except TypeError:
        return _make_dual_class(kind)  # The class may be unhashable; otherwise this raises the same.


def _make_dual_class(kind: type[BaseException]) -> type[RayTaskError]:
    name = f"RayTaskError({kind.__name__})"
    members = {"__module__": RayTaskError.__module__, "__qualname__": name, "__doc__": RayTaskError.__doc__}
    return types.new_class(name, (RayTaskError, kind), exec_body=lambda namespace: namespace.update(members))


_cached_dual_class = functools.lru_cache(maxsize=512)(_make_dual_class)


def _dual_error(kind: type[BaseException], facts: dict[str, Any]) -> RayTaskError | None:
    if steers_interpreter(kind) or (
        builtin_base(kind) in (BaseException, Exception) and kind in (BaseException, Exception)
    ):
        return None
    cause = facts["cause"]
    if isinstance(cause, kind):
        args, fields, state = cause.args, fields_of(cause), dict(vars(cause))
    else:
        args, fields, state = (facts["summary"],), {}, {}
    error = bare_exception(dual_class(kind), args)
    assert isinstance(error, RayTaskError)
    restore(error, args, fields, state)
    error.__dict__.update(facts)
    error.__cause__ = cause
    return error if str(error) and error.cause is cause and isinstance(error, kind) else None
