"""``ray.remote``: make a function or a class remote."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, Unpack, overload

from ray.api.actor_method import ActorMethod
from ray.api.actors import ActorClass, ActorHandle
from ray.api.options import CLASS_NAMES, FUNCTION_NAMES, normalise
from ray.api.remote_function import RemoteFunction
from ray.api.typed import T0, T1, T2, T3, AnyOptions, FixedReturn, P, R
from ray.api.typed_actor import Actor, set_options

if TYPE_CHECKING:
    from ray.api.checked_class import CheckedClass
    from ray.api.typed import FourRefs, OnlyAny, ThreeRefs, TwoRefs
    from ray.runtime.refs.generator import ObjectRefGenerator
    from ray.runtime.refs.ref import ObjectRef

F = TypeVar("F", bound=Callable[..., Any])
A = TypeVar("A", bound=Actor)
C = TypeVar("C", bound=type)
Out_co = TypeVar("Out_co", covariant=True)

_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)
_USAGE = "Use '@ray.remote', '@ray.remote()' or '@ray.remote(option=...)', such as '@ray.remote(num_cpus=2)'."


if TYPE_CHECKING:

    class Decorator(Protocol):
        """What ``ray.remote(...)`` is before it meets its target."""

        @overload
        def __call__(self, target: type[A], /) -> type[A]: ...  # pyright: ignore[reportOverlappingOverload]
        @overload
        def __call__(self, target: C, /) -> CheckedClass[C]: ...  # type: ignore[overload-overlap]
        @overload
        def __call__(self, target: F, /) -> RemoteFunction[F]: ...

    class FixedDecorator(Protocol[Out_co]):
        """The same with ``num_returns=0``."""

        def __call__(self, target: F, /) -> FixedReturn[F, Out_co]: ...

    class SeveralDecorator(Protocol):
        """The same with ``num_returns`` of two or more: what the function returns says of what each reference is."""

        @overload
        def __call__(self, target: Callable[P, OnlyAny], /) -> FixedReturn[Callable[P, Any], list[ObjectRef[Any]]]: ...
        @overload
        def __call__(self, target: Callable[P, tuple[T0, T1]], /) -> FixedReturn[Callable[P, Any], TwoRefs[T0, T1]]: ...  # pyright: ignore[reportOverlappingOverload]
        @overload
        def __call__(
            self, target: Callable[P, tuple[T0, T1, T2]], /
        ) -> FixedReturn[Callable[P, Any], ThreeRefs[T0, T1, T2]]: ...
        @overload
        def __call__(
            self, target: Callable[P, tuple[T0, T1, T2, T3]], /
        ) -> FixedReturn[Callable[P, Any], FourRefs[T0, T1, T2, T3]]: ...
        @overload
        def __call__(self, target: Callable[P, list[R]], /) -> FixedReturn[Callable[P, Any], list[ObjectRef[R]]]: ...
        @overload
        def __call__(self, target: F, /) -> FixedReturn[F, list[ObjectRef[Any]]]: ...

    class StreamingDecorator(Protocol):
        """The same with ``num_returns="streaming"``."""

        @overload
        def __call__(
            self, target: Callable[P, Iterable[R]], /
        ) -> FixedReturn[Callable[P, Any], ObjectRefGenerator[R]]: ...
        @overload
        def __call__(self, target: F, /) -> FixedReturn[F, ObjectRefGenerator[Any]]: ...


@overload
def remote(target: type[A], /) -> type[A]: ...  # pyright: ignore[reportOverlappingOverload]
@overload
def remote(target: C, /) -> CheckedClass[C]: ...  # type: ignore[overload-overlap]
@overload
def remote(target: F, /) -> RemoteFunction[F]: ...
@overload
def remote(*, num_returns: Literal[1] = ..., **options: Unpack[AnyOptions]) -> Decorator: ...  # type: ignore[overload-overlap]
@overload
def remote(*, num_returns: Literal[0], **options: Unpack[AnyOptions]) -> FixedDecorator[None]: ...  # type: ignore[overload-overlap]
@overload
def remote(*, num_returns: Literal["streaming"], **options: Unpack[AnyOptions]) -> StreamingDecorator: ...
@overload
def remote(*, num_returns: int, **options: Unpack[AnyOptions]) -> SeveralDecorator: ...
@overload
def remote(*, num_return_vals: int, **options: Unpack[AnyOptions]) -> SeveralDecorator: ...
def remote(*targets: Any, **options: Any) -> Any:
    """Make a function or a class remote; as a decorator with or without options.

    Args:
        *targets: the function or class, when used without parentheses.
        **options: for both: ``num_cpus``, ``num_gpus``, ``resources`` (amounts by name), ``memory`` (bytes), ``name``;
            ``node`` (a NodeID or the name of a node), ``labels`` (values by name) and ``soft`` (these are wishes), or
            ``scheduling_strategy`` ("SPREAD"), say where it runs.
            For functions: ``num_returns`` (or ``num_return_vals``; "streaming" for as many as are yielded),
            ``max_calls`` (runs until the worker process is replaced; 1 for tasks with GPUs), ``max_retries`` (re-runs
            after the death of a worker; 3; -1 without limit), ``retry_exceptions`` (True or a list of classes: re-run
            on these too), ``timeout_s``, ``priority``.
            For classes: ``max_concurrency``, ``concurrency_groups``, ``max_restarts`` (0; -1 without limit),
            ``max_task_retries``, ``namespace``, ``lifetime`` ("detached": outlives its handles).

    Returns:
        A ``RemoteFunction`` or an ``ActorClass``; a subclass of ``ray.Actor`` itself.

    Raises:
        TypeError: the target cannot be made remote, or an option is of the wrong type.
        ValueError: an unknown option, a value out of range, or an ``async def`` function.
    """
    if len(targets) == 1 and not options:
        return _make(targets[0], options={})
    if targets:
        shown = ", ".join([*map(repr, targets), *(f"{name}={value!r}" for name, value in options.items())])
        raise TypeError(f"ray.remote({shown}) mixes a target and options, or has several targets. {_USAGE}")
    # Names that no target takes are refused here, where the mistake is.
    normalise(options, FUNCTION_NAMES | CLASS_NAMES, "ray.remote")
    return functools.partial(_make, options=options)


def _make(target: Any, *, options: dict[str, Any]) -> Any:
    if isinstance(target, type):
        given = normalise(options, CLASS_NAMES, "an actor class")
        if issubclass(target, Actor):
            set_options(target, given)
            return target
        return ActorClass(target, given)
    if isinstance(target, (RemoteFunction, ActorClass)):
        raise TypeError(f"{target!r} is remote already; use {target.__name__}.options(...) to change its options.")
    if not isinstance(target, _FUNCTIONS):
        raise TypeError(
            "The @ray.remote decorator must be applied to a function or a class, "
            f"not to {target!r} ({type(target).__name__}). {_instead(target)}"
        )
    if inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target):
        raise ValueError(_async_text(getattr(target, "__name__", "f")))
    return RemoteFunction(target, normalise(options, FUNCTION_NAMES, "a remote function"))


def _instead(target: Any) -> str:
    """What to do with something that is neither function nor class."""
    if isinstance(target, (ActorHandle, ActorMethod)):
        return "An actor is remote already: actor.method.remote() calls it, and gives a reference."
    if isinstance(target, (staticmethod, classmethod)):
        return "Make the function remote and not the method, or the whole class: its methods can be called then."
    written_in_c = callable(target) and not isinstance(target.__call__, _FUNCTIONS)
    if inspect.isroutine(target) or written_in_c or callable(getattr(target, "__wrapped__", None)):
        return "Write a function that calls it: ray.remote(lambda *args, **kwargs: f(*args, **kwargs))."
    if callable(target):
        return (
            "Of an object that can be called, give the method: ray.remote(target.__call__). For one that keeps a "
            "state, make its class remote: it becomes an actor."
        )
    return _USAGE


def _async_text(name: str) -> str:
    return (
        f"'async def' should not be used for remote tasks, and {name!r} is one. Run it to its end in a function:\n\n"
        f"    async def {name}(): ...\n\n"
        "    @ray.remote\n"
        "    def wrapper():\n"
        "        import asyncio\n"
        f"        return asyncio.run({name}())\n\n"
        "or make it a method of an actor class, where 'async def' works."
    )
