"""The static shape of remote calls: what ``f.remote(...)`` takes and gives, for type checkers only.

Each class repeats one pattern: a call with plain values (keywords and defaults as in the function), and calls where a
reference may stand for each of the first one to eight values, given by position. A reference by keyword is what
Python's type system cannot say here.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, TypedDict, TypeVar, Unpack, overload

if TYPE_CHECKING:
    from ray.api.strategies import LabelMatch, NodeAffinitySchedulingStrategy, NodeLabelSchedulingStrategy
    from ray.runtime.refs.ref import ObjectRef

P = ParamSpec("P")
R = TypeVar("R")
F_co = TypeVar("F_co", bound=Callable[..., Any], covariant=True)
Out_co = TypeVar("Out_co", covariant=True)
T_co = TypeVar("T_co", covariant=True)
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
    node: str | None
    soft: bool | None
    labels: Mapping[str, str | Sequence[str] | LabelMatch] | None
    scheduling_strategy: (
        Literal["DEFAULT", "SPREAD"] | NodeAffinitySchedulingStrategy | NodeLabelSchedulingStrategy | None
    )


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
    get_if_exists: bool | None
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
        def remote(self: OneReturn[Callable[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[Concatenate[T0, P], R]],
            a0: T0 | ObjectRef[T0],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[Concatenate[T0, T1, P], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[Concatenate[T0, T1, T2, P], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[Concatenate[T0, T1, T2, T3, P], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[Concatenate[T0, T1, T2, T3, T4, P], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[Concatenate[T0, T1, T2, T3, T4, T5, P], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            a5: T5 | ObjectRef[T5],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[Concatenate[T0, T1, T2, T3, T4, T5, T6, P], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            a5: T5 | ObjectRef[T5],
            a6: T6 | ObjectRef[T6],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> ObjectRef[R]: ...
        @overload
        def remote(
            self: OneReturn[Callable[Concatenate[T0, T1, T2, T3, T4, T5, T6, T7, P], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            a5: T5 | ObjectRef[T5],
            a6: T6 | ObjectRef[T6],
            a7: T7 | ObjectRef[T7],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> ObjectRef[R]: ...
        def remote(self, /, *args: Any, **kwargs: Any) -> Any: ...


class FixedReturn(Generic[F_co, Out_co]):
    """A function or method with ``num_returns`` other than 1: several references, or None. For checkers only."""

    if TYPE_CHECKING:

        @overload
        def remote(self: FixedReturn[Callable[P, Any], Out_co], /, *args: P.args, **kwargs: P.kwargs) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[Concatenate[T0, P], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[Concatenate[T0, T1, P], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[Concatenate[T0, T1, T2, P], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[Concatenate[T0, T1, T2, T3, P], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[Concatenate[T0, T1, T2, T3, T4, P], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[Concatenate[T0, T1, T2, T3, T4, T5, P], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            a5: T5 | ObjectRef[T5],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[Concatenate[T0, T1, T2, T3, T4, T5, T6, P], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            a5: T5 | ObjectRef[T5],
            a6: T6 | ObjectRef[T6],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> Out_co: ...
        @overload
        def remote(
            self: FixedReturn[Callable[Concatenate[T0, T1, T2, T3, T4, T5, T6, T7, P], Any], Out_co],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            a4: T4 | ObjectRef[T4],
            a5: T5 | ObjectRef[T5],
            a6: T6 | ObjectRef[T6],
            a7: T7 | ObjectRef[T7],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> Out_co: ...
        def remote(self, /, *args: Any, **kwargs: Any) -> Any: ...

        @overload
        def options(self, /, **options: Unpack[FunctionOptions]) -> FixedReturn[F_co, Out_co]: ...
        @overload
        def options(
            self, /, *, num_returns: int | Literal["streaming"], **options: Unpack[FunctionOptions]
        ) -> FixedReturn[F_co, Any]: ...
        def options(self, /, **options: Any) -> Any: ...


class ActorMaker(Generic[F_co]):
    """A typed actor class with options: ``remote`` takes what the constructor takes. For checkers only."""

    if TYPE_CHECKING:

        @overload
        def remote(self: ActorMaker[Callable[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
        @overload
        def remote(
            self: ActorMaker[Callable[Concatenate[T0, P], R]],
            a0: T0 | ObjectRef[T0],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> R: ...
        @overload
        def remote(
            self: ActorMaker[Callable[Concatenate[T0, T1, P], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> R: ...
        @overload
        def remote(
            self: ActorMaker[Callable[Concatenate[T0, T1, T2, P], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> R: ...
        @overload
        def remote(
            self: ActorMaker[Callable[Concatenate[T0, T1, T2, T3, P], R]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> R: ...
        def remote(self, /, *args: Any, **kwargs: Any) -> Any: ...

        def options(self, **options: Unpack[ClassOptions]) -> ActorMaker[F_co]: ...


if TYPE_CHECKING:

    class OnlyAny:
        """No function returns it: what is taken for it is Any."""

    class SeveralRefs(Generic[T_co]):
        """What ``num_returns`` of two or more gives: a list, which checkers take for a tuple that knows each."""

    class TwoRefs(  # noqa: SLOT001 - never made
        tuple[ObjectRef[T0], ObjectRef[T1]], SeveralRefs[T0 | T1], Generic[T0, T1]
    ):
        """The references to the two values of a ``tuple[T0, T1]``."""

    class ThreeRefs(  # noqa: SLOT001 - never made
        tuple[ObjectRef[T0], ObjectRef[T1], ObjectRef[T2]], SeveralRefs[T0 | T1 | T2], Generic[T0, T1, T2]
    ):
        """The same for three."""

    class FourRefs(  # noqa: SLOT001 - never made
        tuple[ObjectRef[T0], ObjectRef[T1], ObjectRef[T2], ObjectRef[T3]],
        SeveralRefs[T0 | T1 | T2 | T3],
        Generic[T0, T1, T2, T3],
    ):
        """The same for four."""
