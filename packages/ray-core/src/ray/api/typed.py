"""The static shape of remote calls: what ``f.remote(...)`` takes and gives, for type checkers only.

Each class repeats one pattern: a call with plain values (keywords and defaults as in the function), and calls of one
to eight positional arguments where a reference may stand for a value. A reference by keyword is what Python's type
system cannot say here; pass it by position.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypedDict, TypeVar, Unpack, overload

if TYPE_CHECKING:
    from ray.runtime.ref import ObjectRef

P = ParamSpec("P")
R = TypeVar("R")
F_co = TypeVar("F_co", bound=Callable[..., Any], covariant=True)
Out_co = TypeVar("Out_co", covariant=True)
T0 = TypeVar("T0")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")
T7 = TypeVar("T7")


class ResourceOptions(TypedDict, total=False):
    """Options that functions and classes share; None is the default of each."""

    num_cpus: float | None
    num_gpus: float | None
    resources: Mapping[str, float] | None
    memory: int | None
    name: str | None


class FunctionOptions(ResourceOptions, total=False):
    """Options of a remote function, but for the number of its results."""

    max_calls: int | None
    max_retries: int | None
    retry_exceptions: bool | Sequence[type[BaseException]] | None
    timeout_s: float | datetime.timedelta | None
    priority: int | None


class ClassOptions(ResourceOptions, total=False):
    """Options of an actor class."""

    max_concurrency: int | None
    max_restarts: int | None
    max_task_retries: int | None
    namespace: str | None
    lifetime: Literal["detached", "non_detached"] | None
    concurrency_groups: Mapping[str, int] | None


class AnyOptions(FunctionOptions, ClassOptions, total=False):
    """Options of either, for a decorator that has not seen its target yet."""


class CallOptions(TypedDict, total=False):
    """Options of an actor's method, but for the number of its results."""

    timeout_s: float | datetime.timedelta | None
    concurrency_group: str | None
    name: str | None
    max_task_retries: int | None


class MethodMarks(CallOptions, total=False):
    """What ``@ray.method`` takes, and a call's ``.options()`` does not."""

    in_thread: bool | None


class OneReturn(Generic[F_co]):
    """Something whose ``remote`` gives one reference to what the function returns."""

    __slots__ = ()

    if TYPE_CHECKING:

        @overload
        def remote(self: OneReturn[Callable[P, R]], *args: P.args, **kwargs: P.kwargs) -> ObjectRef[R]: ...
        @overload
        def remote(self: OneReturn[Callable[[T0], R]], a0: T0 | ObjectRef[T0], /) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[[T0, T1], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            /,
        ) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[[T0, T1, T2], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            /,
        ) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[[T0, T1, T2, T3], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            /,
        ) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[[T0, T1, T2, T3, T4], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            /,
        ) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[[T0, T1, T2, T3, T4, T5], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            a5: T5 | ObjectRef[T5],
            /,
        ) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[[T0, T1, T2, T3, T4, T5, T6], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            a5: T5 | ObjectRef[T5],
            a6: T6 | ObjectRef[T6],
            /,
        ) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[[T0, T1, T2, T3, T4, T5, T6, T7], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            a5: T5 | ObjectRef[T5],
            a6: T6 | ObjectRef[T6],
            a7: T7 | ObjectRef[T7],
            /,
        ) -> ObjectRef[R]: ...
        def remote(self, *args: Any, **kwargs: Any) -> Any: ...


class FixedReturn(Generic[F_co, Out_co]):
    """A function or method with ``num_returns`` other than 1: a list of references, or None. For checkers only."""

    if TYPE_CHECKING:

        @overload
        def remote(self: FixedReturn[Callable[P, Any], Out_co], *args: P.args, **kwargs: P.kwargs) -> Out_co: ...
        @overload
        def remote(self: FixedReturn[Callable[[T0], Any], Out_co], a0: T0 | ObjectRef[T0], /) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[[T0, T1], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            /,
        ) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[[T0, T1, T2], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            /,
        ) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[[T0, T1, T2, T3], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            /,
        ) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[[T0, T1, T2, T3, T4], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            /,
        ) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[[T0, T1, T2, T3, T4, T5], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            a5: T5 | ObjectRef[T5],
            /,
        ) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[[T0, T1, T2, T3, T4, T5, T6], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            a5: T5 | ObjectRef[T5],
            a6: T6 | ObjectRef[T6],
            /,
        ) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[[T0, T1, T2, T3, T4, T5, T6, T7], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            a5: T5 | ObjectRef[T5],
            a6: T6 | ObjectRef[T6],
            a7: T7 | ObjectRef[T7],
            /,
        ) -> Out_co: ...
        def remote(self, *args: Any, **kwargs: Any) -> Any: ...

        def options(self, **options: Unpack[FunctionOptions]) -> FixedReturn[F_co, Out_co]: ...


class ActorMaker(Generic[F_co]):
    """A typed actor class with options: ``remote`` takes what the constructor takes. For checkers only."""

    if TYPE_CHECKING:

        @overload
        def remote(self: ActorMaker[Callable[P, R]], *args: P.args, **kwargs: P.kwargs) -> R: ...
        @overload
        def remote(self: ActorMaker[Callable[[T0], R]], a0: T0 | ObjectRef[T0], /) -> R: ...
        @overload
        def remote(self: ActorMaker[Callable[[T0, T1], R]], a0: T0 | ObjectRef[T0], a1: T1 | ObjectRef[T1], /) -> R: ...
        @overload
        def remote(
            self: ActorMaker[Callable[[T0, T1, T2], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            /,
        ) -> R: ...
        @overload
        def remote(
            self: ActorMaker[Callable[[T0, T1, T2, T3], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            /,
        ) -> R: ...
        def remote(self, *args: Any, **kwargs: Any) -> Any: ...

        def options(self, **options: Unpack[ClassOptions]) -> ActorMaker[F_co]: ...
