"""``ActorMethod``: one method of an actor, as its handle offers it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

import msgspec

from ray import later_names
from ray.api.actor_state import ActorState, core_of, state_of
from ray.api.options import METHOD_NAMES, method_options, normalise
from ray.api.typed import T0, T1, T2, T3, CallOptions, F_co, FixedReturn, OneReturn, P, R
from ray.exceptions import RayConnectionError, RayError
from ray.exceptions.base import cut_frames
from ray.runtime import interface
from ray.runtime.interface import ActorCore, MethodOptions

if TYPE_CHECKING:
    from ray.api.typed import FourRefs, OnlyAny, ThreeRefs, TwoRefs
    from ray.runtime.refs.generator import ObjectRefGenerator
    from ray.runtime.refs.ref import ObjectRef


class _Doc:
    """The docstring of the class ``ActorMethod``; of a method, that of the user, below how it is called."""

    _OF_THE_CLASS = "One method of one actor; keeps the actor alive. May be passed on, as a handle may."

    def __get__(self, method: ActorMethod[Any] | None, owner: type) -> str:
        if method is None:
            return self._OF_THE_CLASS
        signature = method._signature()
        text = inspect.getdoc(method._ray_function) if method._ray_function is not None else None
        return f"{method._ray_name}.remote{signature}\n\n{text or ''}".rstrip()


class ActorMethod(OneReturn[F_co]):  # noqa: D101
    if not TYPE_CHECKING:  # which knows of strings only
        __doc__ = _Doc()

    __slots__ = ("_ray_core", "_ray_function", "_ray_least", "_ray_most", "_ray_name", "_ray_options")

    def __init__(self, core: ActorCore, name: str, options: MethodOptions, function: Any = None) -> None:
        self._ray_core = core
        self._ray_name = name
        self._ray_options = options
        #: The function of the user's class, for its signature and its docstring; None where the class is not at hand.
        self._ray_function = function
        self._ray_least, self._ray_most = (0, 1 << 30) if options.arity is None else options.arity.bounds()

    if not TYPE_CHECKING:

        def remote(self, /, *args: Any, **kwargs: Any) -> Any:
            """Submit one call and return at once; calls of one caller run in the order of submission.

            Returns and raises as ``RemoteFunction.remote``.
            """
            __tracebackhide__ = True
            runtime = interface._current
            if runtime is None:
                raise RayConnectionError
            options = self._ray_options
            if (kwargs or not self._ray_least <= len(args) <= self._ray_most) and (arity := options.arity) is not None:
                arity.check(f"{self._ray_core.class_name}.{self._ray_name}.remote()", len(args), kwargs)
            try:
                return runtime.submit_call(self._ray_core, self._ray_name, options, args, kwargs)
            except RayError as error:
                cut_frames(error)
                raise

    @overload
    def options(  # type: ignore[overload-overlap]
        self, /, *, num_returns: Literal[1] = ..., **options: Unpack[CallOptions]
    ) -> ActorMethod[F_co]: ...
    @overload
    def options(  # type: ignore[overload-overlap]
        self, /, *, num_returns: Literal[0], **options: Unpack[CallOptions]
    ) -> FixedReturn[F_co, None]: ...
    @overload
    def options(
        self: ActorMethod[Callable[P, Iterable[R]]],
        /,
        *,
        num_returns: Literal["streaming"],
        **options: Unpack[CallOptions],
    ) -> FixedReturn[Callable[P, Any], ObjectRefGenerator[R]]: ...
    @overload
    def options(
        self, /, *, num_returns: Literal["streaming"], **options: Unpack[CallOptions]
    ) -> FixedReturn[F_co, ObjectRefGenerator[Any]]: ...
    @overload
    def options(
        self: ActorMethod[Callable[P, OnlyAny]], /, *, num_returns: int, **options: Unpack[CallOptions]
    ) -> FixedReturn[Callable[P, Any], list[ObjectRef[Any]]]: ...
    @overload
    def options(
        self: ActorMethod[Callable[P, tuple[T0, T1]]], /, *, num_returns: int, **options: Unpack[CallOptions]
    ) -> FixedReturn[Callable[P, Any], TwoRefs[T0, T1]]: ...
    @overload
    def options(
        self: ActorMethod[Callable[P, tuple[T0, T1, T2]]], /, *, num_returns: int, **options: Unpack[CallOptions]
    ) -> FixedReturn[Callable[P, Any], ThreeRefs[T0, T1, T2]]: ...
    @overload
    def options(
        self: ActorMethod[Callable[P, tuple[T0, T1, T2, T3]]], /, *, num_returns: int, **options: Unpack[CallOptions]
    ) -> FixedReturn[Callable[P, Any], FourRefs[T0, T1, T2, T3]]: ...
    @overload
    def options(
        self: ActorMethod[Callable[P, list[R]]], /, *, num_returns: int, **options: Unpack[CallOptions]
    ) -> FixedReturn[Callable[P, Any], list[ObjectRef[R]]]: ...
    @overload
    def options(
        self, /, *, num_returns: int, **options: Unpack[CallOptions]
    ) -> FixedReturn[F_co, list[ObjectRef[Any]]]: ...
    def options(self, /, **options: Any) -> Any:
        """The same method with some options changed.

        Raises:
            TypeError, ValueError: as ``ray.method``.
        """
        given = normalise(options, METHOD_NAMES, "an actor method")
        fresh = method_options(given)
        changed: dict[str, Any] = {name: getattr(fresh, name) for name in given}
        replaced = msgspec.structs.replace(self._ray_options, **changed)
        return ActorMethod(self._ray_core, self._ray_name, replaced, self._ray_function)

    def _remote(
        self, /, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Submit with everything as arguments, as early releases did."""
        target: Any = self.options(**options) if options else self
        return target.remote(*(args or ()), **(kwargs or {}))

    #: Its name in the earliest releases.
    _submit = _remote

    if not TYPE_CHECKING:  # checkers are to refuse the call, and to see a misspelt name

        def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
            name = self._ray_name
            raise TypeError(
                f"Actor methods cannot be called directly. Instead of running 'object.{name}()', "
                f"try 'object.{name}.remote()'."
            )

        def __getattr__(self, name: str) -> Any:
            if name == "__signature__":
                return self._signature()
            if name == "__name__":
                return self._ray_name
            instead = later_names.sentence("a remote function or method", name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}.{instead}")

    def _signature(self) -> inspect.Signature:
        """That of the user's function; of a handle that came from elsewhere, the names that it takes."""
        function, arity = self._ray_function, self._ray_options.arity
        if function is None:
            return inspect.Signature() if arity is None else arity.signature()
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        named = [*arity.names, *arity.keyword_only] if arity is not None else []
        if parameters and parameters[0].name not in named and parameters[0].kind is not parameters[0].VAR_POSITIONAL:
            del parameters[0]  # self
        return signature.replace(parameters=parameters)

    def __repr__(self) -> str:
        return f"ActorMethod({self._ray_core.class_name}.{self._ray_name})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_method, (state_of(self._ray_core), self._ray_name, self._ray_options)


if TYPE_CHECKING:

    class OwnMethod(ActorMethod[F_co]):
        """A marked method of a ``ray.Actor``: handles have the type of the class, where ``self.m()`` is a call."""

        def __call__(self: OwnMethod[Callable[P, R]], *args: P.args, **kwargs: P.kwargs) -> R: ...

    class OwnAsyncMethod(ActorMethod[F_co]):
        """The same for an ``async def``."""

        def __call__(
            self: OwnAsyncMethod[Callable[P, R]], *args: P.args, **kwargs: P.kwargs
        ) -> Coroutine[Any, Any, R]: ...


def _rebuild_method(state: ActorState, name: str, options: MethodOptions) -> ActorMethod[Any]:
    return ActorMethod(core_of(*state), name, options)


class Terminate:
    """``handle.__ray_terminate__``: end the actor after the calls submitted so far."""

    __slots__ = ("_core",)

    def __init__(self, core: ActorCore) -> None:
        self._core = core

    def remote(self) -> ObjectRef[Any]:
        runtime = interface._current
        if runtime is None:
            raise RayConnectionError
        return runtime.terminate_actor(self._core)
