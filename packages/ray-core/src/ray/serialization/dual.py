"""The class of an error that is of the original type as well: RayTaskError, or RayActorError, and that type."""

from __future__ import annotations

import functools
import types
from typing import Any, TypeVar

from ray.exceptions import RayTaskError
from ray.exceptions.base import is_a
from ray.exceptions.dual import DualError
from ray.serialization.carry import args_of, bare_exception, builtin_base, fields_of, restore

D = TypeVar("D", bound=DualError)


def task_error(facts: dict[str, Any], kind: type[BaseException] | None, origin: tuple[Any, ...]) -> RayTaskError:
    """An error to raise.

    Args:
        facts: keyword arguments of RayTaskError, with the original exception, if it came across, as ``cause``.
        kind: the original type or the nearest base that is known here; None for a plain RayTaskError.
        origin: a reduce value that makes this object again.
    """
    return of_both_types(RayTaskError(**facts), kind, origin)


def of_both_types(plain: D, kind: type[BaseException] | None, origin: tuple[Any, ...]) -> D:
    """``plain``, or the same as an instance of ``kind`` too, with the arguments and attributes of its cause.

    Args:
        plain: an error of ours; its ``cause`` is the exception behind it, or None.
        kind: the type of that exception, or the nearest base that is known here; None for no other type.
        origin: a reduce value that makes this object again.
    """
    error: D | None = None
    if kind is not None:
        try:
            error = _dual_error(plain, kind)
        except Exception:
            error = None  # A class that cannot be combined: the plain error says as much.
    if error is None:
        error = plain
    error.__dict__["_origin"] = origin
    return error


def steers_interpreter(kind: type[BaseException]) -> bool:
    """Whether raising it is an instruction (exit, stop, cancel) to the code around, which is not the task's to give."""
    return not issubclass(kind, Exception) or issubclass(kind, (StopIteration, StopAsyncIteration))


def dual_class(base: type[DualError], kind: type[BaseException]) -> type[DualError]:
    """A class that is ``base`` and ``kind``; made once for the two.

    Raises:
        TypeError: they cannot be combined. A metaclass may raise anything else.
    """
    try:
        return _cached_dual_class(base, kind)  # type: ignore[arg-type]
    except TypeError:
        return _make_dual_class(base, kind)  # The class may be unhashable; otherwise this raises the same.


def _make_dual_class(base: type[DualError], kind: type[BaseException]) -> type[DualError]:
    name = f"{base.__name__}({kind.__name__})"
    members = {"__module__": base.__module__, "__qualname__": name, "__doc__": base.__doc__}
    return types.new_class(name, (base, kind), exec_body=lambda namespace: namespace.update(members))


_cached_dual_class = functools.lru_cache(maxsize=512)(_make_dual_class)


def _dual_error(plain: D, kind: type[BaseException]) -> D | None:
    if steers_interpreter(kind) or (
        builtin_base(kind) in (BaseException, Exception) and kind in (BaseException, Exception)
    ):
        return None
    facts = dict(vars(plain))
    cause = facts["cause"]
    if cause is not None and is_a(cause, kind):
        args, fields, state = args_of(cause), fields_of(cause), dict(vars(cause))
    else:
        args, fields, state = (facts["summary"],), {}, {}
    error: Any = bare_exception(dual_class(type(plain), kind), args)
    restore(error, args, fields, state)
    error.__dict__.update(facts)
    error.__cause__ = cause
    made: D = error
    return made if str(made) and made.cause is cause and is_a(made, kind) else None
