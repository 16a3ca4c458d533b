"""What ``@ray.remote`` makes of a class, as type checkers see it: the constructor's arguments are checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, TypeVar, Unpack, overload

from ray.api.actors import ActorClass, ActorHandle
from ray.api.typed import T0, T1, T2, T3, ClassOptions, F_co, P

if TYPE_CHECKING:
    from ray.runtime.refs.ref import ObjectRef

T = TypeVar("T")

if TYPE_CHECKING:

    class CheckedClass(ActorClass[Any], Generic[F_co]):
        """An actor class; ``F_co`` is the class, or what its constructor takes and makes."""

        @overload
        def remote(self: CheckedClass[Callable[P, T]], /, *args: P.args, **kwargs: P.kwargs) -> ActorHandle[T]: ...
        @overload
        def remote(
            self: CheckedClass[Callable[Concatenate[T0, P], T]],
            a0: T0 | ObjectRef[T0],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> ActorHandle[T]: ...
        @overload
        def remote(
            self: CheckedClass[Callable[Concatenate[T0, T1, P], T]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> ActorHandle[T]: ...
        @overload
        def remote(
            self: CheckedClass[Callable[Concatenate[T0, T1, T2, P], T]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> ActorHandle[T]: ...
        @overload
        def remote(
            self: CheckedClass[Callable[Concatenate[T0, T1, T2, T3, P], T]],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> ActorHandle[T]: ...
        def remote(self, /, *args: Any, **kwargs: Any) -> Any: ...

        def options(self, **options: Unpack[ClassOptions]) -> CheckedClass[F_co]: ...
