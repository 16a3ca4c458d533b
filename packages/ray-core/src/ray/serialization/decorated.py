"""What decorators of ``functools`` make of functions, where it travels by value: without what they remember.

The caches of ``lru_cache`` and ``cached_property`` and their locks stay behind. What another process can import goes
by its name, as functions do.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

from ray.serialization.imported import imported

#: The class of what ``functools.lru_cache`` returns; written in C, and pickled by name whatever that is worth.
CACHED: type[Any] = type(functools.lru_cache(maxsize=1)(lambda: None))
_DISPATCHER = functools.singledispatch(lambda value: None).__code__  # type: ignore[attr-defined]
_MADE_ANEW = ("__wrapped__", "cache_parameters", "__type_params__")
_MADE_ANEW_BY_DISPATCH = ("__wrapped__", "register", "dispatch", "registry", "_clear_cache", "__type_params__")


def is_dispatcher(value: Any) -> bool:
    """Whether it is a function that ``functools.singledispatch`` has made."""
    return type(value) is types.FunctionType and value.__code__ is _DISPATCHER


def is_sent_by_value(value: Any) -> bool:
    """Whether the module of an importable function travels by value, as the program has said to cloudpickle."""
    cloudpickle = imported("cloudpickle")
    names = cloudpickle.list_registry_pickle_by_value() if cloudpickle is not None else ()
    module = getattr(value, "__module__", None)
    return isinstance(module, str) and any(module == name or module.startswith(f"{name}.") for name in names)


def reduce_cached(value: Any) -> Any:
    """The reduce value of what ``lru_cache`` has made."""
    state = {name: item for name, item in vars(value).items() if name not in _MADE_ANEW}
    return _cached, (value.__wrapped__, value.cache_parameters()), state


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def reduce_cached_property(value: functools.cached_property[Any], refs: list[Any]) -> Any:
    """The reduce value of one whose class is not a subclass; see ``register_reducer``."""
    return _cached_property, (value.func, value.attrname, value.__doc__)


def _cached_property(function: Callable[[Any], Any], name: str | None, text: str | None) -> Any:
    made = functools.cached_property(function)
    made.attrname, made.__doc__ = name, text
    return made


def reduce_dispatching_method(value: functools.singledispatchmethod[Any], refs: list[Any]) -> Any:
    """The same for one whose class is not a subclass. Python 3.13 has it remember objects, by weak references."""
    return _dispatching_method, (value.func, value.dispatcher)


def _dispatching_method(function: Callable[..., Any], dispatcher: Any) -> Any:
    made = functools.singledispatchmethod(function)
    made.dispatcher = dispatcher
    return made


def reduce_dispatcher(value: Any) -> Any:
    """The reduce value of what ``singledispatch`` has made."""
    own = {name: item for name, item in vars(value).items() if name not in _MADE_ANEW_BY_DISPATCH}
    state = {"__name__": value.__name__, "__qualname__": value.__qualname__, "__doc__": value.__doc__}, own
    return functools.singledispatch, (value.__wrapped__,), (*state, dict(value.registry)), None, None, _set_dispatcher


def _set_dispatcher(value: Any, state: tuple[dict[str, Any], dict[str, Any], dict[type, Callable[..., Any]]]) -> None:
    texts, own, registry = state
    for name, text in texts.items():
        setattr(value, name, text)
    vars(value).update(own)
    for cls, function in registry.items():
        value.register(cls, function)


def parts(value: Any) -> Iterator[tuple[str, Any]] | None:
    """The named parts that go along with it; None for what no decorator above has made."""
    if type(value) is CACHED:
        return iter([(".__wrapped__", value.__wrapped__)])
    if type(value) is functools.cached_property:
        return iter([(".func", value.func)])
    if is_dispatcher(value):
        return iter([(f".registry[{cls.__name__}]", function) for cls, function in value.registry.items()])
    return None
