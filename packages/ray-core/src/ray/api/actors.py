"""Actors: ``ActorClass`` makes them, ``ActorHandle`` and ``ActorMethod`` call them, ``Actor`` is their typed base."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, NoReturn, TypeVar, Unpack, overload

from ray.api.methods import actor_methods, is_async_class
from ray.api.options import CLASS_NAMES, METHOD_NAMES, Given, actor_options, method_options, normalise
from ray.api.typed import T0, T1, T2, T3, ActorMaker, CallOptions, ClassOptions, F_co, FixedReturn, OneReturn, P, R
from ray.config.spelling import did_you_mean
from ray.exceptions import RayConnectionError
from ray.runtime import interface
from ray.runtime.arity import Arity, constructor_arity
from ray.runtime.interface import ActorCore, FunctionDescriptor, MethodOptions

if TYPE_CHECKING:
    from ray.runtime.ref import ObjectRef
    from ray.runtime.streams import ObjectRefGenerator

F = TypeVar("F", bound=Callable[..., Any])
T_co = TypeVar("T_co", covariant=True)
_TERMINATE = "__ray_terminate__"


class ActorMethod(OneReturn[F_co]):
    """One method of one actor; keeps the actor alive."""

    __slots__ = ("_core", "_least", "_most", "_name", "_options")

    def __init__(self, core: ActorCore, name: str, options: MethodOptions) -> None:
        self._core = core
        self._name = name
        self._options = options
        self._least, self._most = (0, 1 << 30) if options.arity is None else options.arity.bounds()

    def _submit(self, *args: Any, **kwargs: Any) -> Any:
        runtime = interface._current
        if runtime is None:
            raise RayConnectionError
        if (kwargs or not self._least <= len(args) <= self._most) and (arity := self._options.arity) is not None:
            arity.check(f"{self._core.class_name}.{self._name}.remote()", len(args), kwargs)
        return runtime.submit_call(self._core, self._name, self._options, args, kwargs)

    if not TYPE_CHECKING:
        remote = _submit
        remote.__name__ = "remote"
        remote.__doc__ = """Submit one call and return at once; calls of one caller run in the order of submission.

        Returns and raises as ``RemoteFunction.remote``.
        """

    @overload
    def options(self, *, num_returns: Literal[1] = ..., **options: Unpack[CallOptions]) -> ActorMethod[F_co]: ...  # type: ignore[overload-overlap]
    @overload
    def options(self, *, num_returns: Literal[0], **options: Unpack[CallOptions]) -> FixedReturn[F_co, None]: ...  # type: ignore[overload-overlap]
    @overload
    def options(
        self, *, num_returns: Literal["streaming"], **options: Unpack[CallOptions]
    ) -> FixedReturn[F_co, ObjectRefGenerator[Any]]: ...
    @overload
    def options(
        self, *, num_returns: int, **options: Unpack[CallOptions]
    ) -> FixedReturn[F_co, list[ObjectRef[Any]]]: ...
    def options(self, **options: Any) -> Any:
        """The same method with some options changed.

        Raises:
            TypeError, ValueError: as ``ray.method``.
        """
        given = normalise(options, METHOD_NAMES, "an actor method")
        fresh = method_options(given)
        changed: dict[str, Any] = {name: getattr(fresh, name) for name in given}
        return ActorMethod(self._core, self._name, dataclasses.replace(self._options, **changed))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Typed as a call, because inside the class ``self.m()`` is one.
        name = self._name
        raise TypeError(
            f"Actor methods cannot be called directly. Instead of running 'object.{name}()', "
            f"try 'object.{name}.remote()'."
        )

    def __repr__(self) -> str:
        return f"ActorMethod({self._core.class_name}.{self._name})"


class _Terminate:
    """``handle.__ray_terminate__``: end the actor after the calls submitted so far."""

    __slots__ = ("_core",)

    def __init__(self, core: ActorCore) -> None:
        self._core = core

    def remote(self) -> ObjectRef[Any]:
        runtime = interface._current
        if runtime is None:
            raise RayConnectionError
        return runtime.terminate_actor(self._core)


class ActorHandle(Generic[T_co]):
    """A handle on an actor: its methods are attributes with ``remote``. May be passed to tasks and other actors.

    The actor ends when its last handle goes, after the calls submitted by then.
    """

    _core: ActorCore

    def __init__(self, core: ActorCore) -> None:
        self.__dict__["_core"] = core
        if "call" in core.methods:  # the actor's own method wins over ours
            self.__dict__["call"] = ActorMethod(core, "call", core.methods["call"])

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> ActorMethod[Callable[..., Any]]: ...

    else:

        def __getattr__(self, name: str) -> Any:
            core = self.__dict__.get("_core")
            options = None if core is None else core.methods.get(name)
            if options is not None:
                method = self.__dict__[name] = ActorMethod(core, name, options)
                return method
            if core is not None and name == _TERMINATE:
                return _Terminate(core)
            shown = "an actor handle" if core is None else repr(self)
            hint = "" if core is None or name.startswith("__") else did_you_mean(name, core.methods)
            raise AttributeError(f"{shown} has no method {name!r}; fields cannot be read from outside.{hint}")

        def __setattr__(self, name: str, value: Any) -> NoReturn:
            raise AttributeError(
                f"{self!r} has its state in a process of its own, so {name!r} cannot be set from outside. Give the "
                f"class a method that sets it, such as set_{name}, and call handle.set_{name}.remote(...)."
            )

        def __delattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"{self!r} has its state in a process of its own, so {name!r} cannot be deleted from outside. Give the "
                "class a method that does."
            )

    @overload
    def call(
        self, method: Callable[Concatenate[T_co, P], Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> ObjectRef[R]: ...
    @overload
    def call(self, method: Callable[Concatenate[T_co, P], R], /, *args: P.args, **kwargs: P.kwargs) -> ObjectRef[R]: ...
    def call(self, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call ``method``, a function of the actor's class: ``handle.call(A.m, 1)`` is a typed ``handle.m.remote(1)``.

        Raises:
            TypeError: ``method`` is no function; else as ``remote``.
            AttributeError: the class has no such method.
        """
        name = getattr(method, "__name__", None)
        if not callable(method) or not isinstance(name, str):
            raise TypeError(f"call() takes a method of the actor's class, such as A.m, not {method!r}")
        return getattr(self, name).remote(*args, **kwargs)

    def __dir__(self) -> list[str]:
        return sorted([*self._core.methods, "call"])

    def __repr__(self) -> str:
        return f"Actor({self._core.class_name}, {self._core.actor_id.hex()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._core.actor_id == self._core.actor_id

    def __hash__(self) -> int:
        return hash(self._core.actor_id)

    def __reduce__(self) -> tuple[Any, ...]:
        core = self._core
        methods = dict(core.methods)
        state = (core.actor_id, core.class_name, methods, core.life, core.max_task_retries, core.is_async)
        return _rebuild_handle, state


def _rebuild_handle(
    actor_id: bytes,
    class_name: str,
    methods: Mapping[str, MethodOptions],
    life: ObjectRef[Any] | None,
    max_task_retries: int,
    is_async: bool,
) -> ActorHandle[Any]:
    runtime = interface.current()
    if runtime is None:
        raise RayConnectionError(
            "An actor handle can only be unpickled while a session is open: call ray.init() first."
        )
    return ActorHandle(runtime.adopt_actor(ActorCore(actor_id, class_name, methods, life, max_task_retries, is_async)))


class ActorClass(Generic[T_co]):
    """A class whose instances live in processes of their own. Made by ``@ray.remote``; ``remote`` makes an actor."""

    def __init__(
        self, cls: Any, given: Any = None, namespace: Any = None, *, parent: ActorClass[Any] | None = None
    ) -> None:
        if isinstance(cls, str):  # called as a metaclass: class S(ThisActorClass)
            base = next((b.__name__ for b in given if isinstance(b, ActorClass)), "?")
            raise TypeError(
                f"Attempted to define subclass {cls!r} of actor class {base!r}. Inherit from a plain class, and "
                "decorate each class that is to be an actor with @ray.remote."
            )
        self.__module__ = cls.__module__
        self.__name__: str = cls.__name__
        self.__qualname__ = cls.__qualname__
        self.__doc__ = cls.__doc__
        self._class = cls
        self._given: Given = given or {}
        self._options = actor_options(self._given)
        self._descriptor: FunctionDescriptor = parent._descriptor if parent else FunctionDescriptor(cls)
        # Read off the class at the first use: while a class is unpickled it has no attributes yet.
        self._table: tuple[Mapping[str, MethodOptions], Arity, bool] | None = parent._table if parent else None

    def _methods(self) -> tuple[Mapping[str, MethodOptions], Arity, bool]:
        if self._table is None:
            methods = actor_methods(self._class, Actor)
            arity = constructor_arity(self._class) or Arity(var_positional=True, var_keyword=True)
            self._table = (methods, arity, is_async_class(self._class))
        groups = self._options.concurrency_groups
        for name, options in self._table[0].items():
            if options.concurrency_group is not None and options.concurrency_group not in groups:
                raise ValueError(
                    f"The method {name!r} of {self.__name__} is in concurrency group {options.concurrency_group!r}, "
                    f"which concurrency_groups= does not have.{did_you_mean(options.concurrency_group, groups)}"
                )
        return self._table

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle[T_co]:
        """Start an actor and return its handle at once; an error of its constructor shows in the calls.

        Raises:
            RayConnectionError: ``ray.init`` has not been called.
            TypeError: the constructor does not take these arguments, or one cannot be pickled. Nothing was started.
            ValueError: the name is taken.
        """
        runtime = interface._current
        if runtime is None:
            raise RayConnectionError
        methods, arity, is_async = self._methods()
        arity.check(f"{self.__name__}.remote()", len(args), kwargs)
        return ActorHandle(runtime.create_actor(self._descriptor, self._options, methods, args, kwargs, is_async))

    def options(self, **options: Unpack[ClassOptions]) -> ActorClass[T_co]:
        """The same class with some options changed; this one is left as it is.

        Raises:
            TypeError, ValueError: as ``ray.remote``.
        """
        given = self._given | normalise(options, CLASS_NAMES, "an actor class")
        return ActorClass(self._class, given, parent=self)

    def _remote(self, args: Any = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> ActorHandle[T_co]:
        """Start with everything as arguments, as early releases did."""
        return self.options(**options).remote(*args, **(kwargs or {}))

    if not TYPE_CHECKING:  # checkers are to refuse the call, too

        def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
            name = self.__name__
            raise TypeError(f"Actors cannot be instantiated directly. Instead of '{name}()', use '{name}.remote()'.")

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise AttributeError(
                f"{self!r} sends its class to other processes as it was decorated: {name!r} cannot be set afterwards. "
                "Set it in the class, or give it to the constructor."
            )
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"ActorClass({self.__name__})"

    def __reduce__(self) -> tuple[Any, ...]:
        """By value: the module may not be importable where this arrives."""
        return ActorClass, (self._class, self._given)


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
        def remote(cls: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
        @overload
        @classmethod
        def remote(cls: Callable[[T0], R], a0: T0 | ObjectRef[T0], /) -> R: ...
        @overload
        @classmethod
        def remote(cls: Callable[[T0, T1], R], a0: T0 | ObjectRef[T0], a1: T1 | ObjectRef[T1], /) -> R: ...
        @overload
        @classmethod
        def remote(
            cls: Callable[[T0, T1, T2], R], a0: T0 | ObjectRef[T0], a1: T1 | ObjectRef[T1], a2: T2 | ObjectRef[T2], /
        ) -> R: ...
        @overload
        @classmethod
        def remote(
            cls: Callable[[T0, T1, T2, T3], R],
            a0: T0 | ObjectRef[T0],
            a1: T1 | ObjectRef[T1],
            a2: T2 | ObjectRef[T2],
            a3: T3 | ObjectRef[T3],
            /,
        ) -> R: ...
        @classmethod
        def remote(cls, *args: Any, **kwargs: Any) -> Any: ...

        @classmethod
        def options(cls: F, **options: Unpack[ClassOptions]) -> ActorMaker[F]: ...

    else:

        @classmethod
        def remote(cls, *args: Any, **kwargs: Any) -> ActorHandle[Any]:
            """Start an actor; as ``ActorClass.remote``."""
            return actor_class_of(cls).remote(*args, **kwargs)

        @classmethod
        def options(cls, **options: Any) -> ActorClass[Any]:
            """The actor class with some options changed; as ``ActorClass.options``."""
            return actor_class_of(cls).options(**options)


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
