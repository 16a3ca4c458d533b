"""``RemoteFunction``: what ``@ray.remote`` makes of a function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Unpack, cast, overload

from ray import later_names
from ray.api.options import FUNCTION_NAMES, Given, normalise, task_options
from ray.api.placing import merged
from ray.api.typed import T0, T1, T2, T3, F_co, FixedReturn, FunctionOptions, OneReturn, P, R
from ray.exceptions import RayConnectionError, RayError
from ray.exceptions.base import cut_frames
from ray.runtime import interface
from ray.runtime.arity import Arity, arity_of
from ray.runtime.interface import FunctionDescriptor, TaskOptions

if TYPE_CHECKING:
    from ray.api.typed import FourRefs, OnlyAny, ThreeRefs, TwoRefs
    from ray.runtime.refs.generator import ObjectRefGenerator
    from ray.runtime.refs.ref import ObjectRef


class RemoteFunction(OneReturn[F_co]):
    """A function whose calls run as tasks in other processes.

    Made by ``@ray.remote``; keeps no session, so it works before ``ray.init``, in every session after it, and inside
    other tasks.
    """

    _function: F_co
    __name__: str

    def __init__(
        self,
        function: F_co,
        given: Given,
        *,
        descriptor: FunctionDescriptor[Any] | None = None,
        arity: Arity | None = None,
    ) -> None:
        functools.update_wrapper(cast("Any", self), function)
        self._function = function
        self._given = given
        self._options: TaskOptions = task_options(given)
        self._descriptor = descriptor or FunctionDescriptor(function)
        # Read off the signature at the first call: while a recursive function is unpickled it has no defaults yet.
        self._arity = arity
        self._least, self._most = (1, 0) if arity is None else arity.bounds()

    if not TYPE_CHECKING:

        def remote(self, /, *args: Any, **kwargs: Any) -> Any:
            """Submit one call and return at once.

            Arguments are copied. A reference given as an argument is replaced by its value before the function runs;
            one inside a container arrives as a reference.

            Returns:
                A reference to the result, a list of ``num_returns`` references, or None where ``num_returns=0``.

            Raises:
                RayConnectionError: ``ray.init`` has not been called.
                TypeError: the function does not take these arguments, or one cannot be pickled. Nothing was submitted.
            """
            __tracebackhide__ = True
            runtime = interface._current
            if runtime is None:
                raise RayConnectionError
            if kwargs or not self._least <= len(args) <= self._most:
                self._check(args, kwargs)
            try:
                return runtime.submit_task(self._descriptor, self._options, args, kwargs)
            except RayError as error:
                cut_frames(error)
                raise

    def _check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        __tracebackhide__ = True
        arity = self._arity
        if arity is None:
            arity = arity_of(self._function) or Arity(var_positional=True, var_keyword=True)
            self._arity = arity
            self._least, self._most = arity.bounds()
        arity.check(f"{self._descriptor.name}.remote()", len(args), kwargs)

    @overload
    def options(  # type: ignore[overload-overlap]
        self, /, *, num_returns: Literal[1] = ..., **options: Unpack[FunctionOptions]
    ) -> RemoteFunction[F_co]: ...
    @overload
    def options(  # type: ignore[overload-overlap]
        self, /, *, num_returns: Literal[0], **options: Unpack[FunctionOptions]
    ) -> FixedReturn[F_co, None]: ...
    @overload
    def options(
        self: RemoteFunction[Callable[P, Iterable[R]]],
        /,
        *,
        num_returns: Literal["streaming"],
        **options: Unpack[FunctionOptions],
    ) -> FixedReturn[Callable[P, Any], ObjectRefGenerator[R]]: ...
    @overload
    def options(
        self, /, *, num_returns: Literal["streaming"], **options: Unpack[FunctionOptions]
    ) -> FixedReturn[F_co, ObjectRefGenerator[Any]]: ...
    @overload
    def options(
        self: RemoteFunction[Callable[P, OnlyAny]], /, *, num_returns: int, **options: Unpack[FunctionOptions]
    ) -> FixedReturn[Callable[P, Any], list[ObjectRef[Any]]]: ...
    @overload
    def options(
        self: RemoteFunction[Callable[P, tuple[T0, T1]]], /, *, num_returns: int, **options: Unpack[FunctionOptions]
    ) -> FixedReturn[Callable[P, Any], TwoRefs[T0, T1]]: ...
    @overload
    def options(
        self: RemoteFunction[Callable[P, tuple[T0, T1, T2]]], /, *, num_returns: int, **options: Unpack[FunctionOptions]
    ) -> FixedReturn[Callable[P, Any], ThreeRefs[T0, T1, T2]]: ...
    @overload
    def options(
        self: RemoteFunction[Callable[P, tuple[T0, T1, T2, T3]]],
        /,
        *,
        num_returns: int,
        **options: Unpack[FunctionOptions],
    ) -> FixedReturn[Callable[P, Any], FourRefs[T0, T1, T2, T3]]: ...
    @overload
    def options(
        self: RemoteFunction[Callable[P, list[R]]], /, *, num_returns: int, **options: Unpack[FunctionOptions]
    ) -> FixedReturn[Callable[P, Any], list[ObjectRef[R]]]: ...
    @overload
    def options(
        self, /, *, num_returns: int, **options: Unpack[FunctionOptions]
    ) -> FixedReturn[F_co, list[ObjectRef[Any]]]: ...
    @overload
    def options(
        self, /, *, num_return_vals: int, **options: Unpack[FunctionOptions]
    ) -> FixedReturn[F_co, list[ObjectRef[Any]]]: ...
    def options(self, /, **options: Any) -> Any:
        """The same function with some options changed; this one is left as it is.

        Raises:
            TypeError, ValueError: as ``ray.remote``.
        """
        given = merged(self._given, normalise(options, FUNCTION_NAMES, "a remote function"))
        return RemoteFunction(self._function, given, descriptor=self._descriptor, arity=self._arity)

    def _remote(
        self, /, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Submit with everything as arguments, as early releases did."""
        target: Any = self.options(**options) if options else self
        return target.remote(*(args or ()), **(kwargs or {}))

    #: Its name in the earliest releases.
    _submit = _remote

    if not TYPE_CHECKING:  # checkers are to refuse the call, too

        def __call__(self, /, *args: Any, **kwargs: Any) -> NoReturn:
            name = self._descriptor.name
            raise TypeError(
                f"Remote functions cannot be called directly. Instead of running '{name}()', try '{name}.remote()'."
            )

        def __getattr__(self, name: str) -> Any:
            instead = later_names.sentence("a remote function or method", name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}.{instead}")

    def __repr__(self) -> str:
        return f"RemoteFunction({self._descriptor.qualname})"

    def __reduce__(self) -> tuple[Any, ...]:
        """By value: the module may not be importable where this arrives."""
        return _rebuild, (self._function, self._given)


def _rebuild(function: Callable[..., Any], given: Given) -> RemoteFunction[Any]:
    return RemoteFunction(function, given)
