"""The methods of an actor class: ``@ray.method``, and the table that handles work from."""

from __future__ import annotations

import inspect
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, Protocol, TypeVar, Unpack, overload

import msgspec

from ray.api.options import METHOD_NAMES, check_name, method_options, normalise
from ray.api.typed import T0, T1, T2, T3, FixedReturn, MethodMarks, P, R
from ray.runtime.arity import arity_of
from ray.runtime.async_functions import is_async, runs_on_loop, streams_on_loop
from ray.runtime.interface import IN_THREAD, STREAMING, MethodOptions

if TYPE_CHECKING:
    from ray.api.actor_method import OwnAsyncMethod, OwnMethod
    from ray.api.typed import FourRefs, OnlyAny, ThreeRefs, TwoRefs
    from ray.runtime.refs.generator import ObjectRefGenerator
    from ray.runtime.refs.ref import ObjectRef

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
Out_co = TypeVar("Out_co", covariant=True)

#: Where ``@ray.method`` leaves the options on the function.
_MARK = "__ray_method__"
_NOT_CALLABLE_FROM_OUTSIDE = frozenset({"__class_getitem__", "__del__", "__getattr__"})
#: What every object has, and an actor offers where its class has its own: what says something of its state.
OWN_OF_OBJECTS = frozenset(
    f"__{name}__" for name in ("repr", "str", "format", "sizeof", "hash", "eq", "ne", "lt", "le", "gt", "ge")
)
_OF_OBJECTS = frozenset(vars(object)) - OWN_OF_OBJECTS


if TYPE_CHECKING:

    class TypedMethod(Generic[S_contra, P, R_co]):
        """What ``@ray.method`` makes, as type checkers see it: on a handle it has ``remote``."""

        @overload
        def __get__(self, obj: None, owner: object = ...) -> Callable[Concatenate[S_contra, P], R_co]: ...
        @overload
        def __get__(self, obj: object, owner: object = ...) -> OwnMethod[Callable[P, R_co]]: ...
        def __get__(self, obj: object, owner: object = None) -> Any: ...

    class TypedAsyncMethod(Generic[S_contra, P, R_co]):
        """The same for an ``async def``."""

        @overload
        def __get__(self, obj: None, owner: object = ...) -> Callable[Concatenate[S_contra, P], R_co]: ...
        @overload
        def __get__(self, obj: object, owner: object = ...) -> OwnAsyncMethod[Callable[P, R_co]]: ...
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
        def __call__(  # type: ignore[overload-overlap]
            self, function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /
        ) -> TypedAsyncMethod[S, P, R]: ...
        @overload
        def __call__(self, function: Callable[Concatenate[S, P], R], /) -> TypedMethod[S, P, R]: ...

    class FixedMethodDecorator(Protocol[Out_co]):
        """The same with ``num_returns=0``."""

        def __call__(self, function: Callable[Concatenate[S, P], Any], /) -> TypedFixedMethod[P, Out_co]: ...

    class SeveralMethodDecorator(Protocol):
        """The same with ``num_returns`` of two or more."""

        @overload
        def __call__(
            self, function: Callable[Concatenate[S, P], OnlyAny], /
        ) -> TypedFixedMethod[P, list[ObjectRef[Any]]]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[S, P], Coroutine[Any, Any, tuple[T0, T1]]], /
        ) -> TypedFixedMethod[P, TwoRefs[T0, T1]]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[S, P], Coroutine[Any, Any, tuple[T0, T1, T2]]], /
        ) -> TypedFixedMethod[P, ThreeRefs[T0, T1, T2]]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[S, P], Coroutine[Any, Any, tuple[T0, T1, T2, T3]]], /
        ) -> TypedFixedMethod[P, FourRefs[T0, T1, T2, T3]]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[S, P], Coroutine[Any, Any, list[R]]], /
        ) -> TypedFixedMethod[P, list[ObjectRef[R]]]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[S, P], tuple[T0, T1]], /
        ) -> TypedFixedMethod[P, TwoRefs[T0, T1]]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[S, P], tuple[T0, T1, T2]], /
        ) -> TypedFixedMethod[P, ThreeRefs[T0, T1, T2]]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[S, P], tuple[T0, T1, T2, T3]], /
        ) -> TypedFixedMethod[P, FourRefs[T0, T1, T2, T3]]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[S, P], list[R]], /
        ) -> TypedFixedMethod[P, list[ObjectRef[R]]]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[S, P], Any], /
        ) -> TypedFixedMethod[P, list[ObjectRef[Any]]]: ...

    class StreamingMethodDecorator(Protocol):
        """The same with ``num_returns="streaming"``."""

        @overload
        def __call__(
            self, function: Callable[Concatenate[S, P], Iterable[R] | AsyncIterator[R]], /
        ) -> TypedFixedMethod[P, ObjectRefGenerator[R]]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[S, P], Any], /
        ) -> TypedFixedMethod[P, ObjectRefGenerator[Any]]: ...


@overload
def method(  # type: ignore[overload-overlap]
    function: Callable[Concatenate[S, P], AsyncIterator[R]], /
) -> TypedFixedMethod[P, ObjectRefGenerator[R]]: ...
@overload
def method(  # type: ignore[overload-overlap]
    function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /
) -> TypedAsyncMethod[S, P, R]: ...
@overload
def method(function: Callable[Concatenate[S, P], R], /) -> TypedMethod[S, P, R]: ...
@overload
def method(*, num_returns: Literal[1] = ..., **options: Unpack[MethodMarks]) -> MethodDecorator: ...  # type: ignore[overload-overlap]
@overload
def method(*, num_returns: Literal[0], **options: Unpack[MethodMarks]) -> FixedMethodDecorator[None]: ...  # type: ignore[overload-overlap]
@overload
def method(*, num_returns: Literal["streaming"], **options: Unpack[MethodMarks]) -> StreamingMethodDecorator: ...
@overload
def method(*, num_returns: int, **options: Unpack[MethodMarks]) -> SeveralMethodDecorator: ...
@overload
def method(*, num_return_vals: int, **options: Unpack[MethodMarks]) -> SeveralMethodDecorator: ...
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
        function = plain(target)
        if not isinstance(function, types.FunctionType):
            raise TypeError(f"@ray.method must be put over a method, not over {target!r} ({type(target).__name__})")
        if in_thread and is_async(function):
            raise ValueError(f"in_thread=True is for plain methods; {function.__qualname__} is an 'async def'.")
        setattr(function, _MARK, marked)
        if in_thread:
            setattr(function, IN_THREAD, True)
        return target

    return decorate if function is None else decorate(function)


#: Base classes for typing, whose own methods are not the actor's.
TYPED_BASES: list[type] = []


class FromActorClass:
    """An attribute of a class, not of its instances, that is one of its actor class."""

    __slots__ = ("_actor_class", "_name")

    def __init__(self, actor_class: Any, name: str) -> None:
        self._actor_class = actor_class
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is not None:
            raise AttributeError(f"{owner.__name__!r} object has no attribute {self._name!r}")
        return getattr(self._actor_class, self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        return FromActorClass, (self._actor_class, self._name)


def actor_methods(cls: type) -> dict[str, MethodOptions]:
    """The options of every method that a handle offers, by name.

    Args:
        cls: the user's class.
    """
    of_bases = (vars(base) for base in TYPED_BASES if issubclass(cls, base))
    not_offered = _NOT_CALLABLE_FROM_OUTSIDE.union(_OF_OBJECTS, *of_bases)
    methods: dict[str, MethodOptions] = {}
    for name in dir(cls):
        if name in not_offered:
            continue
        attribute = inspect.getattr_static(cls, name)
        function = plain(attribute)
        if not inspect.isroutine(function) or isinstance(attribute, FromActorClass):
            continue
        if name in OWN_OF_OBJECTS and not isinstance(function, types.FunctionType):
            continue
        options: MethodOptions = getattr(function, _MARK, None) or MethodOptions()
        if streams_on_loop(function) and options.num_returns == 1:
            options = msgspec.structs.replace(options, num_returns=STREAMING)
        check_name(name, "Method")  # it is to travel
        arity = arity_of(function, bound=not isinstance(attribute, staticmethod))
        methods[name] = msgspec.structs.replace(options, arity=arity)
    return methods


def unmarked(names: Iterable[str]) -> list[str]:
    """Those that a user would look for: the ones that Python itself calls are left out."""
    return [name for name in names if not (name.startswith("__") and name.endswith("__"))]


def is_async_class(cls: type) -> bool:
    """Whether any method, inherited ones too, is an ``async def``."""
    return any(runs_on_loop(plain(attribute)) for _, attribute in inspect.getmembers_static(cls))


def plain(attribute: Any) -> Any:
    """The function behind a static or class method."""
    return attribute.__func__ if isinstance(attribute, (staticmethod, classmethod)) else attribute
