"""The methods of an actor class: ``@ray.method``, and the table that handles work from."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, Protocol, TypeVar, Unpack, overload

from ray.api.options import METHOD_NAMES, method_options, normalise
from ray.api.typed import FixedReturn, MethodMarks, P, R
from ray.runtime.arity import arity_of
from ray.runtime.async_functions import runs_on_loop, streams_on_loop
from ray.runtime.interface import IN_THREAD, STREAMING, MethodOptions

if TYPE_CHECKING:
    from ray.api.actors import ActorMethod
    from ray.runtime.ref import ObjectRef
    from ray.runtime.streams import ObjectRefGenerator

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
Out_co = TypeVar("Out_co", covariant=True)

#: Where ``@ray.method`` leaves the options on the function.
_MARK = "__ray_method__"
_NOT_CALLABLE_FROM_OUTSIDE = frozenset({"__class_getitem__", "__del__", "__getattr__"})


if TYPE_CHECKING:

    class TypedMethod(Generic[S_contra, P, R_co]):
        """What ``@ray.method`` makes, as type checkers see it: on a handle it has ``remote``."""

        @overload
        def __get__(self, obj: None, owner: object = ...) -> Callable[Concatenate[S_contra, P], R_co]: ...
        @overload
        def __get__(self, obj: object, owner: object = ...) -> ActorMethod[Callable[P, R_co]]: ...
        def __get__(self, obj: object, owner: object = None) -> Any: ...

    class TypedFixedMethod(Generic[P, Out_co]):
        """The same with ``num_returns`` other than 1."""

        def __get__(self, obj: object, owner: object = ...) -> FixedReturn[Callable[P, Any], Out_co]: ...

    class MethodDecorator(Protocol):
        """What ``@ray.method(...)`` is before it meets its function."""

        @overload
        def __call__(  # type: ignore[overload-overlap]
            self, function: Callable[Concatenate[S, P], AsyncIterator[R]], /
        ) -> TypedFixedMethod[P, ObjectRefGenerator[R]]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /
        ) -> TypedMethod[S, P, R]: ...
        @overload
        def __call__(self, function: Callable[Concatenate[S, P], R], /) -> TypedMethod[S, P, R]: ...

    class FixedMethodDecorator(Protocol[Out_co]):
        """The same with ``num_returns`` other than 1."""

        def __call__(self, function: Callable[Concatenate[S, P], Any], /) -> TypedFixedMethod[P, Out_co]: ...


@overload
def method(  # type: ignore[overload-overlap]
    function: Callable[Concatenate[S, P], AsyncIterator[R]], /
) -> TypedFixedMethod[P, ObjectRefGenerator[R]]: ...
@overload
def method(function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /) -> TypedMethod[S, P, R]: ...
@overload
def method(function: Callable[Concatenate[S, P], R], /) -> TypedMethod[S, P, R]: ...
@overload
def method(*, num_returns: Literal[1] = ..., **options: Unpack[MethodMarks]) -> MethodDecorator: ...  # type: ignore[overload-overlap]
@overload
def method(*, num_returns: Literal[0], **options: Unpack[MethodMarks]) -> FixedMethodDecorator[None]: ...  # type: ignore[overload-overlap]
@overload
def method(
    *, num_returns: Literal["streaming"], **options: Unpack[MethodMarks]
) -> FixedMethodDecorator[ObjectRefGenerator[Any]]: ...
@overload
def method(*, num_returns: int, **options: Unpack[MethodMarks]) -> FixedMethodDecorator[list[ObjectRef[Any]]]: ...
@overload
def method(*, num_return_vals: int, **options: Unpack[MethodMarks]) -> FixedMethodDecorator[list[ObjectRef[Any]]]: ...
def method(function: Any = None, /, **options: Any) -> Any:
    """Set options of an actor's method; without any, only make its type known to checkers.

    Args:
        function: the method, when used without parentheses.
        **options: ``num_returns`` (or ``num_return_vals``; "streaming" for as many as the method yields, which is the
            default of async generators), ``timeout_s``, ``concurrency_group``, ``name``, ``max_task_retries``;
            ``in_thread=True`` runs a plain method of an async actor on a thread, so that the loop goes on.

    Returns:
        The function itself, so that a local instance behaves as ever.

    Raises:
        ValueError: an unknown option, a value out of range, or ``in_thread`` over an ``async def``.
        TypeError: a value of the wrong type, or the target is no method.
    """
    if function is not None and options:
        raise TypeError("Write @ray.method(...) with options only, and put it over the method.")
    given = normalise(options, METHOD_NAMES | {"in_thread"}, "an actor method")
    in_thread = given.pop("in_thread", False)
    if not isinstance(in_thread, bool):
        raise TypeError(f"in_thread must be True or False, not {in_thread!r}")
    marked = method_options(given)

    def decorate(target: Any) -> Any:
        plain = _plain(target)
        if not isinstance(plain, types.FunctionType):
            raise TypeError(f"@ray.method must be put over a method, not over {target!r} ({type(target).__name__})")
        if in_thread and _runs_on_loop(plain):
            raise ValueError(f"in_thread=True is for plain methods; {plain.__qualname__} is an 'async def'.")
        setattr(plain, _MARK, marked)
        if in_thread:
            setattr(plain, IN_THREAD, True)
        return target

    return decorate if function is None else decorate(function)


def actor_methods(cls: type, base: type) -> dict[str, MethodOptions]:
    """The options of every method that a handle offers, by name.

    Args:
        cls: the user's class.
        base: the typed base class, whose own methods are not the actor's.
    """
    methods: dict[str, MethodOptions] = {}
    for name in dir(cls):
        if hasattr(object, name) or name in vars(base) or name in _NOT_CALLABLE_FROM_OUTSIDE:
            continue
        attribute = inspect.getattr_static(cls, name)
        plain = _plain(attribute)
        if not inspect.isroutine(plain):
            continue
        options: MethodOptions = getattr(plain, _MARK, None) or MethodOptions()
        if streams_on_loop(plain) and options.num_returns == 1:
            options = dataclasses.replace(options, num_returns=STREAMING)
        arity = arity_of(plain, bound=not isinstance(attribute, staticmethod))
        methods[name] = dataclasses.replace(options, arity=arity)
    return methods


def is_async_class(cls: type) -> bool:
    """Whether any method, inherited ones too, is an ``async def``."""
    return any(runs_on_loop(_plain(attribute)) for _, attribute in inspect.getmembers_static(cls))


def _runs_on_loop(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _plain(attribute: Any) -> Any:
    return attribute.__func__ if isinstance(attribute, (staticmethod, classmethod)) else attribute
