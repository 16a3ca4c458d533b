"""``Actor``: the base class of actors whose every call type checkers can check."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, TypeVar, Unpack, overload

from ray.api.actors import ActorClass, ActorHandle
from ray.api.methods import TYPED_BASES
from ray.api.options import Given, actor_options
from ray.api.typed import T0, T1, T2, T3, ActorMaker, ClassOptions, P, R

if TYPE_CHECKING:
    from ray.runtime.refs.ref import ObjectRef

F = TypeVar("F", bound=Callable[..., Any])


class _Record:
    """What a subclass of ``Actor`` carries: the options of its decorator, and the actor class once it is used."""

    __slots__ = ("actor_class", "given")

    def __init__(self, given: Given | None = None) -> None:
        self.given: Given = given or {}
        self.actor_class: ActorClass[Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _Record, (self.given,)


class Actor:
    """Base class for actors whose every call type checkers can check.

    ``class A(ray.Actor)`` with ``@ray.method`` over its methods: ``A.remote(...)`` takes what ``__init__`` takes and
    ``a.m.remote(...)`` what ``m`` takes. At run time ``A.remote`` gives an ``ActorHandle``. ``A(...)`` makes an
    ordinary local object, which is what a unit test wants.
    """

    __ray_actor__ = _Record()

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.__ray_actor__ = _Record()

    if TYPE_CHECKING:

        @overload
        @classmethod
        def remote(cls: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
        @overload
        @classmethod
        def remote(
            cls: Callable[Concatenate[T0, P], R], a0: T0 | ObjectRef[T0], /, *args: P.args, **kwargs: P.kwargs
        ) -> R: ...
        @overload
        @classmethod
        def remote(
            cls: Callable[Concatenate[T0, T1, P], R],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> R: ...
        @overload
        @classmethod
        def remote(
            cls: Callable[Concatenate[T0, T1, T2, P], R],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> R: ...
        @overload
        @classmethod
        def remote(
            cls: Callable[Concatenate[T0, T1, T2, T3, P], R],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> R: ...
        @classmethod
        def remote(cls, /, *args: Any, **kwargs: Any) -> Any: ...

        @classmethod
        def options(cls: F, **options: Unpack[ClassOptions]) -> ActorMaker[F]: ...

    else:

        @classmethod
        def remote(cls, /, *args: Any, **kwargs: Any) -> ActorHandle[Any]:
            """Start an actor; as ``ActorClass.remote``."""
            return actor_class_of(cls).remote(*args, **kwargs)

        @classmethod
        def options(cls, /, **options: Any) -> ActorClass[Any]:
            """The actor class with some options changed; as ``ActorClass.options``."""
            return actor_class_of(cls).options(**options)


TYPED_BASES.append(Actor)


def actor_class_of(cls: Any) -> ActorClass[Any]:
    """The actor class of a subclass of ``Actor``, made at first use."""
    record: _Record = cls.__ray_actor__
    if record.actor_class is None:
        record.actor_class = ActorClass(cls, record.given)
    return record.actor_class


def set_options(cls: Any, given: Given) -> None:
    """Apply ``@ray.remote(...)`` to a subclass of ``Actor``. Raises as it, changing nothing."""
    actor_options(given)
    cls.__ray_actor__ = _Record(given)
