"""Actors: ``ActorClass`` makes them, ``ActorHandle`` calls them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NoReturn, Self, TypeVar, Unpack, overload

from ray import later_names
from ray.api.actor_method import ActorMethod, Terminate
from ray.api.actor_state import ActorState, core_of, state_of
from ray.api.methods import OWN_OF_OBJECTS, FromActorClass, actor_methods, is_async_class, plain, unmarked
from ray.api.options import CLASS_NAMES, Given, actor_options, normalise
from ray.api.placing import merged
from ray.api.typed import ClassOptions, P, R
from ray.config.spelling import did_you_mean
from ray.exceptions import RayConnectionError, RayError
from ray.exceptions.base import cut_frames
from ray.protocol.last_calls import TERMINATE
from ray.runtime import interface
from ray.runtime.arity import Arity, constructor_arity
from ray.runtime.interface import ActorCore, FunctionDescriptor, MethodOptions, Runtime

if TYPE_CHECKING:
    from ray.runtime.refs.ref import ObjectRef

T_co = TypeVar("T_co", covariant=True)
#: What a handle has by the name of a method that an actor may have.
_OURS = OWN_OF_OBJECTS | {"call"}


class ActorHandle(Generic[T_co]):
    """A handle on an actor: its methods are attributes with ``remote``. May be passed to tasks and other actors.

    The actor ends when its last handle goes, after the calls submitted by then.
    """

    _core: ActorCore
    #: The user's class, where it is at hand: in the process that made the actor.
    _class: type | None

    def __init__(self, core: ActorCore, cls: type | None = None) -> None:
        self.__dict__["_core"] = core
        self.__dict__["_class"] = cls
        if not _OURS.isdisjoint(core.methods):  # the actor's own method wins over ours
            for name in _OURS.intersection(core.methods):
                self.__dict__[name] = self.__getattr__(name)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> ActorMethod[Callable[..., Any]]: ...

    else:

        def __getattr__(self, name: str) -> Any:
            core = self.__dict__.get("_core")
            options = None if core is None else core.methods.get(name)
            if options is not None:
                function = None if self._class is None else plain(inspect.getattr_static(self._class, name, None))
                method = self.__dict__[name] = ActorMethod(core, name, options, function)
                return method
            if core is not None and name == TERMINATE:
                return Terminate(core)
            shown = "an actor handle" if core is None else repr(self)
            hint = "" if core is None or name.startswith("__") else did_you_mean(name, unmarked(core.methods))
            if name == "options":
                hint = (
                    " Options are those of a call, handle.method.options(...).remote(...), or of the class, before it "
                    "is made."
                )
            raise AttributeError(f"{shown} has no method {name!r}; fields cannot be read from outside.{hint}")

        def __setattr__(self, name: str, value: object) -> NoReturn:
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

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        return f"Actor({self._core.class_name}, {self._core.actor_id.hex()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._core.actor_id == self._core.actor_id

    def __hash__(self) -> int:
        return hash(self._core.actor_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_handle, state_of(self._core)


def _rebuild_handle(*state: *ActorState) -> ActorHandle[Any]:
    return ActorHandle(core_of(*state))


class ActorClass(Generic[T_co]):
    """A class whose instances live in processes of their own. Made by ``@ray.remote``; ``remote`` makes an actor.

    Its other attributes are those of the class: constants, static and class methods, nested classes.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self, cls: Any, given: Any = None, namespace: Any = None, *, parent: ActorClass[Any] | None = None
    ) -> None:
        if isinstance(cls, str):  # called as a metaclass: class S(ThisActorClass)
            base = next((b.__name__ for b in given if isinstance(b, ActorClass)), "?")
            raise TypeError(
                f"Attempted to define subclass {cls!r} of actor class {base!r}. Inherit from a plain class, and "
                "decorate each class that is to be an actor with @ray.remote."
            )
        own = self.__dict__
        own["__module__"] = cls.__module__
        own["__name__"] = cls.__name__
        own["__qualname__"] = cls.__qualname__
        own["__doc__"] = cls.__doc__
        self._ray_class = cls
        self._ray_given: Given = given or {}
        self._ray_options = actor_options(self._ray_given)
        self._ray_descriptor: FunctionDescriptor[Any] = parent._ray_descriptor if parent else FunctionDescriptor(cls)
        #: The one that was decorated, where this is the same with other options.
        self._ray_origin: ActorClass[Any] | None = (parent._ray_origin or parent) if parent else None
        # Read off the class at the first use: while a class is unpickled it has no attributes yet. The origin's counts.
        self._ray_table: tuple[Mapping[str, MethodOptions], Arity, bool] | None = None

    def _ray_methods(self) -> tuple[Mapping[str, MethodOptions], Arity, bool]:
        origin = self._ray_origin or self
        table = origin._ray_table
        if table is None:
            methods = actor_methods(self._ray_class)
            arity = constructor_arity(self._ray_class) or Arity(var_positional=True, var_keyword=True)
            table = origin._ray_table = (methods, arity, is_async_class(self._ray_class))
        groups = self._ray_options.concurrency_groups
        for name, options in table[0].items():
            if options.concurrency_group is not None and options.concurrency_group not in groups:
                raise ValueError(
                    f"The method {name!r} of {self._ray_name} is in concurrency group {options.concurrency_group!r}, "
                    f"which concurrency_groups= does not have.{did_you_mean(options.concurrency_group, groups)}"
                )
        return table

    @property
    def _ray_name(self) -> str:
        return self._ray_descriptor.name

    def remote(self, /, *args: Any, **kwargs: Any) -> ActorHandle[T_co]:
        """Start an actor and return its handle at once; an error of its constructor shows in the calls.

        Raises:
            RayConnectionError: ``ray.init`` has not been called.
            TypeError: the constructor does not take these arguments, or one cannot be pickled. Nothing was started.
            ValueError: the name is taken.
        """
        runtime = interface._current
        if runtime is None:
            raise RayConnectionError
        __tracebackhide__ = True
        methods, arity, is_async = self._ray_methods()
        arity.check(f"{self._ray_name}.remote()", len(args), kwargs)
        try:
            if self._ray_given.get("get_if_exists"):
                core = self._get_or_create(runtime, args, kwargs)
            else:
                core = runtime.create_actor(self._ray_descriptor, self._ray_options, methods, args, kwargs, is_async)
        except RayError as error:
            cut_frames(error)
            raise
        return ActorHandle(core, self._ray_class)

    def _get_or_create(self, runtime: Runtime, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ActorCore:
        methods, _, is_async = self._ray_methods()
        options = self._ray_options
        assert options.name is not None
        while True:
            try:
                return runtime.get_named_actor(options.name, options.namespace)
            except ValueError:  # there is none
                pass
            try:
                return runtime.create_actor(self._ray_descriptor, options, methods, args, kwargs, is_async)
            except ValueError as error:  # there is one meanwhile: found in the next round, unless it has gone again
                if isinstance(error, RayError):  # of an argument
                    raise

    def options(self, /, **options: Unpack[ClassOptions]) -> ActorClass[T_co]:
        """The same class with some options changed; this one is left as it is.

        Raises:
            TypeError, ValueError: as ``ray.remote``.
        """
        given = merged(self._ray_given, normalise(options, CLASS_NAMES, "an actor class"))
        return ActorClass(self._ray_class, given, parent=self)

    def _remote(
        self, /, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> ActorHandle[T_co]:
        """Start with everything as arguments, as early releases did."""
        return self.options(**options).remote(*(args or ()), **(kwargs or {}))

    #: Its name in the earliest releases.
    _submit = _remote

    if not TYPE_CHECKING:  # checkers are to refuse these, too

        def __call__(self, /, *args: Any, **kwargs: Any) -> NoReturn:
            name = self._ray_name
            raise TypeError(f"Actors cannot be instantiated directly. Instead of '{name}()', use '{name}.remote()'.")

        def __getattr__(self, name: str) -> Any:
            cls = self.__dict__.get("_ray_class")
            if cls is not None and name == "__signature__":
                return inspect.signature(cls)
            if cls is None or (name.startswith("__") and name.endswith("__")):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            try:
                return getattr(cls, name)
            except AttributeError:
                hint = later_names.sentence("a remote function or method", name)
                hint = hint or did_you_mean(name, [*unmarked(actor_methods(cls)), "remote", "options"])
                raise AttributeError(f"actor class {cls.__name__} has no attribute {name!r}.{hint}") from None

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            raise AttributeError(
                f"{self!r} sends its class to other processes as it was decorated: {name!r} cannot be set afterwards. "
                "Set it in the class, or give it to the constructor."
            )
        object.__setattr__(self, name, value)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._ray_class)

    def __subclasscheck__(self, cls: type) -> bool:
        return issubclass(cls, self._ray_class)

    def _ray_own_class(self, cls: type) -> Any:
        """What the decorated name means in the process of an actor of ``cls``: the class, which can be called there.

        It keeps ``remote`` and ``options``. A class that has something of its own by these names keeps that.
        """
        if cls is not self._ray_class or hasattr(cls, "remote") or hasattr(cls, "options"):
            return self
        for name in ("remote", "options"):
            setattr(cls, name, FromActorClass(self, name))
        return cls

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._ray_class), "remote", "options"})

    def __repr__(self) -> str:
        return f"ActorClass({self._ray_name})"

    def __reduce__(self) -> tuple[Any, ...]:
        """By value: the module may not be importable where this arrives."""
        return ActorClass, (self._ray_class, self._ray_given)
