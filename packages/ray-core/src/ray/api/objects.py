"""Objects: ``get``, ``put``, ``wait`` and ``cancel``."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Never, TypeVar, overload

from ray import later_names
from ray.api.options import seconds, whole_number
from ray.config.spelling import did_you_mean
from ray.exceptions import RayConnectionError, RayError
from ray.exceptions.base import cut_frames, cut_wait
from ray.runtime import interface
from ray.runtime.interface import current_session
from ray.runtime.refs.ref import ObjectRef
from ray.units import seconds_from_milliseconds

if TYPE_CHECKING:
    from ray.api.typed import SeveralRefs

R = TypeVar("R")
#: Stands for an argument that was not given.
_MISSING: Any = object()
_ONLY_REFS = frozenset({ObjectRef})
#: A process has one entry for an id, and entries hash by identity: much quicker than refs.
_entry_of = attrgetter("_entry")


@overload
def get(object_refs: ObjectRef[R], timeout: float | datetime.timedelta | None = ..., *, copy: bool = ...) -> R: ...
@overload
def get(
    object_refs: list[ObjectRef[R]], timeout: float | datetime.timedelta | None = ..., *, copy: bool = ...
) -> list[R]: ...
@overload
def get(
    object_refs: SeveralRefs[R], timeout: float | datetime.timedelta | None = ..., *, copy: bool = ...
) -> list[R]: ...
def get(object_refs: Any = _MISSING, timeout: Any = None, *, copy: bool = False, **later: Any) -> Any:
    """Wait for objects and return their values.

    Arrays inside the values are read-only views of the store.

    Args:
        object_refs: a reference, or a list of references.
        timeout: seconds, a timedelta, or None to wait for as long as it takes; 0 takes only what is ready.
        copy: make writable copies instead of views.
        **later: keywords of other releases, see ``ray.later_names``.

    Returns:
        The value, or the list of values in the order of the references.

    Raises:
        RayConnectionError: there is no session.
        ValueError: neither a reference nor a list.
        TypeError: an element of the list that is no reference.
        GetTimeoutError: not ready in time; the tasks go on.
        RayError: one has failed; the others are not waited for. If several have by then, the first of them in the list.
            The error of a task is of its original type as well.
    """
    __tracebackhide__ = True
    runtime = interface._current
    if type(object_refs) is ObjectRef and runtime is not None and not later:
        try:
            return runtime.get_one(object_refs, None if timeout is None else _timeout(timeout), copy)
        except BaseException as error:
            cut_wait(error)
            raise
    if later or object_refs is _MISSING:
        return get(**_settled("ray.get", later, object_refs=object_refs, timeout=timeout, copy=copy))
    if runtime is None:
        raise RayConnectionError
    if not isinstance(object_refs, list):
        from ray.api import advice  # not before it is needed

        raise ValueError(
            "'object_refs' must either be an object ref or a list of object refs, not "
            f"{_shown(object_refs)}.{advice.for_get(object_refs)}"
        )
    _check_elements("ray.get", object_refs)
    timeout_s = None if timeout is None else _timeout(timeout)
    try:
        return runtime.get(object_refs, timeout_s, copy) if object_refs else []
    except BaseException as error:
        cut_wait(error)
        raise


def put(value: R, **later: Never) -> ObjectRef[R]:
    """Store an immutable copy of ``value`` and return a reference to it.

    Args:
        value: anything that can be pickled.
        **later: keywords of other releases, see ``ray.later_names``.

    Raises:
        RayConnectionError: there is no session.
        TypeError: ``value`` is a reference (put it in a list if that is meant), or cannot be pickled.
    """
    __tracebackhide__ = True
    if later:
        _settled("ray.put", later)
    runtime = interface._current
    if runtime is None:
        raise RayConnectionError
    if type(value) is ObjectRef:
        raise TypeError(
            f"Calling 'put' on an object ref is not allowed, and {value!r} is one already. If you really want to store "
            "the reference, put it in a list."
        )
    try:
        return runtime.put(value)
    except (RayError, KeyboardInterrupt) as error:
        cut_frames(error)
        raise


def wait(
    object_refs: list[ObjectRef[R]] | SeveralRefs[R] = _MISSING,
    num_returns: int = 1,
    timeout: float | datetime.timedelta | None = None,
    fetch_local: bool = False,
    **later: Never,
) -> tuple[list[ObjectRef[R]], list[ObjectRef[R]]]:
    """Wait until some objects are ready. A failed task counts as ready; its error is not raised here.

    A value is ready on the node where it is made. With ``fetch_local=True`` it is brought to the node of this program,
    and ready once it is there, so that ``ray.get`` need not wait for it; so is one that cannot be brought.

    Args:
        object_refs: references, no two alike.
        num_returns: how many to wait for.
        timeout: **milliseconds**, a timedelta, or None to wait for as long as it takes; 0 looks and returns.
        fetch_local: bring the values to this node.
        **later: keywords of other releases, see ``ray.later_names``.

    Returns:
        At most ``num_returns`` ready references, and the rest, both in the order of ``object_refs``.

    Raises:
        TypeError: not a list of references, or another argument of the wrong type.
        ValueError: a negative timeout, duplicates, or a ``num_returns`` below 1 or above the length of the list.
        RayConnectionError: there is no session.
    """
    __tracebackhide__ = True
    refs: Any = object_refs
    if later or refs is _MISSING:
        return wait(
            **_settled(
                "ray.wait",
                later,
                object_refs=object_refs,
                num_returns=num_returns,
                timeout=timeout,
                fetch_local=fetch_local,
            )
        )
    if not isinstance(refs, list):
        from ray.api import advice  # not before it is needed

        raise TypeError(f"wait() expected a list of object refs, not {_shown(refs)}{advice.for_wait(refs)}")
    if type(num_returns) is not int or timeout is not None:
        _refuse_more_refs("ray.wait", num_returns, timeout)
    timeout_s = seconds_from_milliseconds(timeout)
    if type(fetch_local) is not bool:
        raise TypeError(f"fetch_local must be True or False, not {fetch_local!r}")
    current = interface._current
    if current is None or not current.remembers(refs):
        _check_elements("wait()", refs)
        current_session()
        _check_unique(refs)
    runtime = current_session()
    if not refs:
        return [], []
    count = whole_number("num_returns", num_returns, least=None)
    if count <= 0:
        raise ValueError(f"Invalid number of objects to return {count}: num_returns must be at least 1.")
    if count > len(refs):
        raise ValueError(
            f"num_returns cannot be greater than the number of objects provided to ray.wait: {count} of {len(refs)}."
        )
    try:
        return runtime.wait(refs, count, timeout_s, True) if fetch_local else runtime.wait(refs, count, timeout_s)
    except BaseException as error:
        cut_wait(error)
        raise


def cancel(
    object_refs: ObjectRef[Any] | Sequence[ObjectRef[Any]],
    *more: Never,
    force: bool = False,
    recursive: bool = True,
) -> None:
    """Cancel the tasks that make these objects. What has ended, and objects made by ``put``, are left as they are.

    Args:
        object_refs: a reference, or a list of references.
        *more: nothing is accepted.
        force: end the worker process of a task that runs, instead of interrupting the task. Not for calls of actors,
            whose process is that of all their calls: ``ray.kill(actor)`` ends it.
        recursive: cancel the tasks that the task has submitted, too.

    Raises:
        RayConnectionError: there is no session.
        TypeError: not a reference, and not a list of references; or more arguments. Nothing was cancelled.
        ValueError: ``force=True`` for a call of an actor. Nothing was cancelled.
    """
    __tracebackhide__ = True
    runtime = current_session()
    if more:
        raise TypeError(
            "ray.cancel() takes one argument, a reference or a list of them, and 'force' and 'recursive' by name, as "
            f"in ray.cancel([ref1, ref2], force=True); {_shown(more[0])} is one argument too many."
        )
    refs = [object_refs] if isinstance(object_refs, ObjectRef) else object_refs
    if not isinstance(refs, (list, tuple)):
        from ray.api import advice  # not before it is needed

        raise TypeError(
            "ray.cancel() expected an object ref or a list of object refs, not "
            f"{_shown(object_refs)}{advice.for_cancel(object_refs)}"
        )
    _check_elements("ray.cancel()", refs)
    for name, value in (("force", force), ("recursive", recursive)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, not {value!r}")
    if force:
        for ref in refs:
            runtime.check_force(ref)
    for ref in refs:
        runtime.cancel(ref, force, recursive, again=True)


def _settled(call: str, later: Mapping[str, Any], **given: Any) -> dict[str, Any]:
    """The arguments of a call with keywords of other releases.

    Raises:
        TypeError: as Python, for names that nobody knows, for those that are not here, and for what is missing.
    """
    own = {name: value for name, value in given.items() if value is not _MISSING}
    settled = later_names.settle(call, later)
    for name in settled:
        if name in own:
            raise TypeError(f"{call}() got multiple values for argument {name!r}")
        if name not in given:
            instead = later_names.sentence(call, name) or did_you_mean(name, given)
            raise TypeError(f"{call}() got an unexpected keyword argument {name!r}.{instead}")
    for name in given:
        if name not in own and name not in settled:
            raise TypeError(f"{call}() missing 1 required positional argument: {name!r}")
    return own | settled


def _check_unique(refs: Sequence[ObjectRef[Any]]) -> None:
    different = len(set(map(_entry_of, refs)))
    if different != len(refs):
        raise ValueError(
            f"Wait requires a list of unique object refs; {len(refs) - different} of the {len(refs)} given "
            "are repeated."
        )


def _timeout(value: object) -> float | None:
    __tracebackhide__ = True
    _refuse_more_refs("ray.get", value)
    return seconds("timeout", value)


def _refuse_more_refs(call: str, *arguments: object) -> None:
    """Refuse references where others follow the list: ``ray.get(a, b)``."""
    __tracebackhide__ = True
    for given in arguments:
        if isinstance(given, (ObjectRef, list, tuple)):
            raise TypeError(
                f"{call} takes all references as its first argument, in one list: {call}([ref1, ref2]). A later "
                f"argument is {_shown(given)}."
            )


def _check_elements(call: str, refs: Sequence[Any]) -> None:
    __tracebackhide__ = True
    if not _ONLY_REFS.issuperset(map(type, refs)):
        from ray.api import advice  # not before it is needed

        say = advice.for_cancel if call == "ray.cancel()" else advice.for_element
        at, wrong = next((at, item) for at, item in enumerate(refs) if type(item) is not ObjectRef)
        raise TypeError(f"{call} expected a list of object refs, but element {at} is {_shown(wrong)}{say(wrong)}.")


def _shown(value: object) -> str:
    text = repr(value)
    if len(text) > 80:
        text = text[:77] + "..."
    return f"{text} ({type(value).__name__})"
