"""Classes that travel by value: which process defined them, and which may change them.

cloudpickle gives such a class an identity, so that it comes home as the same object; but on arrival it sets every
attribute again, which at home would replace the user's methods by copies with globals of their own.
"""

from __future__ import annotations

import contextlib
import enum
import threading
import types
import typing
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from ray.serialization.structs import is_struct, with_fields

_home: weakref.WeakSet[type] = weakref.WeakSet()
_received: weakref.WeakSet[type] = weakref.WeakSet()
_thread = threading.local()


def travelling(cls: type, reduced: Any) -> Any:
    """Let cloudpickle's reduce value of ``cls`` restore the class's state through ``set_state``."""
    if not isinstance(reduced, tuple) or len(reduced) != 6:
        return reduced
    if cls not in _received:
        _home.add(cls)
    function, args, state, _, _, setter = reduced
    if is_struct(cls):
        args, state = with_fields(cls, args, _without_members(state))
    elif "__slots__" in vars(cls):
        args, state = _with_slots(cls, args), _without_members(state)
    return function, args, (setter, state), None, None, set_state


def _with_slots(cls: type, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Cloudpickle makes the class anew without its slots, so that its instances would have a ``__dict__`` instead."""
    if issubclass(cls, enum.Enum):  # whose members have a ``__dict__`` all the same
        return args
    kind, name, bases, contents, *rest = args
    if typing.NamedTuple in bases:  # which makes slots itself, and refuses ours
        return args
    members = vars(cls)
    slots = [slot for slot, member in members.items() if isinstance(member, types.MemberDescriptorType)]
    slots += [slot for slot in ("__dict__", "__weakref__") if isinstance(members.get(slot), types.GetSetDescriptorType)]
    return kind, name, bases, {**contents, "__slots__": tuple(slots)}, *rest


def _without_members(state: tuple[dict[str, Any], Any]) -> tuple[dict[str, Any], Any]:
    contents, rest = state
    kept = {name: item for name, item in contents.items() if not isinstance(item, types.MemberDescriptorType)}
    return kept, rest


def set_state(cls: type, state: tuple[Callable[[type, Any], Any], Any]) -> type:
    """Called by the pickle: complete a class that was just made, or bring a received one up to date."""
    if cls in _home or (cls in _received and getattr(_thread, "trying", False)):
        return cls
    setter, contents = state
    setter(cls, contents)
    _received.add(cls)
    return cls


@contextlib.contextmanager
def trial() -> Iterator[None]:
    """While this thread opens a pickle only to see that it works, known classes stay as they are."""
    _thread.trying = True
    try:
        yield
    finally:
        _thread.trying = False
