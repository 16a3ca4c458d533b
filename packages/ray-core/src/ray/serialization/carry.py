"""Exceptions as pickles that open elsewhere, whatever their ``__init__``, ``__reduce__`` and attributes are like.

Python rebuilds an exception by calling its class with ``args``, which fails, or quietly changes the message, for every
class whose ``__init__`` takes something else. Here an exception without a ``__reduce__`` of its own travels as its
class, ``args``, attributes and built-in fields, and is rebuilt without running the class's code.
"""

from __future__ import annotations

import copyreg
import functools
import io
import reprlib
import types
from collections.abc import Callable
from pickle import loads
from typing import Any

from ray.exceptions.base import is_a, layout_base
from ray.serialization.classes import trial
from ray.serialization.guard import run_guarded
from ray.serialization.pickling import PRIMITIVES, by_value_pickler
from ray.serialization.render import message_of, shorten

#: Largest pickle of an exception, and of its classes together.
MAX_CAUSE_BYTES = 1 << 20
_MAX_ITEM_TEXT = 16 * 1024
_REPR = reprlib.Repr()
_HEAP_TYPE = 1 << 9
_OWN_WAYS = ("__reduce_ex__", "__reduce__", "__getstate__", "__setstate__")
#: Fields that hold the object the error is about: too much to carry.
_LEFT_BEHIND = frozenset({"args", "obj", "exceptions", "message"})


def pack_exception(exc: BaseException) -> bytes:
    """A pickle of ``exc`` that was opened once to see that it works; empty if there is no way. Never raises.

    Attributes that cannot travel (or hold references, or are too large) are replaced by their text.
    """
    if _is_simple(exc):
        return _attempt(lambda: _pickle_checked(exc, forced=not is_ours(type(exc)))) or b""
    by_value_pickler()  # Its import may take longer than the guard allows.
    if _has_own_way(type(exc)):
        blob = run_guarded(lambda: _pickle_checked(exc, forced=False))
        if blob:
            return blob
    return (
        run_guarded(lambda: _pickle_checked(exc, forced=True))
        or run_guarded(lambda: _pickle_checked(_reduced(exc, 0), forced=True))
        or b""
    )


def pack_types(cls: type) -> list[bytes]:
    """Pickles of the class and its bases up to the first built-in one, leaving out what cannot travel. Never raises."""
    blobs, total = [], 0
    for base in cls.__mro__:
        if not base.__flags__ & _HEAP_TYPE:
            break
        if issubclass(base, BaseException):
            blob = _attempt(functools.partial(_pickle_type, base))
            if blob and total + len(blob) <= MAX_CAUSE_BYTES:
                blobs.append(blob)
                total += len(blob)
    return blobs


def builtin_base(cls: type) -> type[BaseException]:
    """The first built-in class that an exception class descends from."""
    for base in cls.__mro__:
        if not base.__flags__ & _HEAP_TYPE and issubclass(base, BaseException):
            return base
    return BaseException


def bare_exception(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """An instance of ``cls`` with ``args``, made without the class's own ``__new__`` and ``__init__``."""
    base = layout_base(cls)
    exc: BaseException = base.__new__(cls, *args)
    try:
        base.__init__(exc, *args)
    except Exception:
        pass  # A subclass may keep args that its base would not accept; the fields are set one by one.
    return exc


def args_of(exc: BaseException) -> tuple[Any, ...]:
    """Its ``args``, whatever its class has made of that name."""
    args: tuple[Any, ...] = BaseException.args.__get__(exc)  # type: ignore[attr-defined]
    return args


def fields_of(exc: BaseException) -> dict[str, Any]:
    """Values outside ``__dict__``: those of built-in classes (``errno``, ``code``, …) and of ``__slots__``."""
    found = {}
    for base in type(exc).__mro__:
        users = bool(base.__flags__ & _HEAP_TYPE)
        for name, item in list(vars(base).items()):
            is_field = isinstance(item, (types.MemberDescriptorType, types.GetSetDescriptorType))
            if is_field and not name.startswith("__") and (users or name not in _LEFT_BEHIND) and name not in found:
                try:
                    value = item.__get__(exc)
                except Exception:
                    continue  # Not set.
                if users or value is not None:  # What an OSError answers for a file name that it does not have.
                    found[name] = value
    return found


def restore(exc: BaseException, args: tuple[Any, ...], fields: dict[str, Any], state: dict[str, Any]) -> BaseException:
    """Give a bare exception its contents."""
    for name, value in fields.items():
        try:
            object.__setattr__(exc, name, value)
        except Exception:
            continue  # Read-only.
    for name, value in state.items():
        slot = next((vars(base)[name] for base in type(exc).__mro__ if name in vars(base)), None)
        if isinstance(slot, types.MemberDescriptorType):  # The class had no slots where this comes from.
            slot.__set__(exc, value)
        else:
            exc.__dict__[name] = value
    BaseException.args.__set__(exc, args)  # type: ignore[attr-defined]
    return exc


def rebuild(cls: type[BaseException], args: tuple[Any, ...], fields: dict[str, Any], state: dict[str, Any]) -> Any:
    """What the pickles made here call."""
    return restore(bare_exception(cls, args), args, fields, state)


def _is_simple(exc: BaseException) -> bool:
    """Whether pickling it runs no code of the user's."""
    if (_has_own_way(type(exc)) and not is_ours(type(exc))) or len(args_of(exc)) > 100:
        return False
    values = [*args_of(exc), *fields_of(exc).values(), *vars(exc).values()]
    return all(type(v) in PRIMITIVES and not (isinstance(v, (str, bytes)) and len(v) > _MAX_ITEM_TEXT) for v in values)


def is_ours(cls: type) -> bool:
    """Whether it is one of ``ray.exceptions``, which every process has."""
    return cls.__module__ == "ray.exceptions" or cls.__module__.startswith("ray.exceptions.")


def _has_own_way(cls: type) -> bool:
    if cls in copyreg.dispatch_table:
        return True
    for name in _OWN_WAYS:
        for base in cls.__mro__:
            if name in vars(base):
                if base.__flags__ & _HEAP_TYPE:
                    return True
                break
    return False


class _Bounded(io.BytesIO):
    """A file that refuses to grow large."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MAX_CAUSE_BYTES:
            raise OverflowError("too large to travel with an error")
        return super().write(data)


@functools.cache
def _exception_pickler() -> Callable[..., Any]:
    class ExceptionPickler(by_value_pickler()):  # type: ignore[misc]
        forced = False

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, BaseException) and (self.forced or not _has_own_way(type(obj))):
                return rebuild, (type(obj), args_of(obj), fields_of(obj), dict(vars(obj)))
            return super().reducer_override(obj)

    return ExceptionPickler


def _pickle(value: Any, *, forced: bool) -> bytes:
    file, refs = _Bounded(), list[Any]()
    pickler = _exception_pickler()(file, refs, None)
    pickler.forced = forced
    pickler.dump(value)
    if refs:
        raise ValueError("an error holds no references: nobody would count them")
    return file.getvalue()


def _pickle_checked(exc: BaseException, *, forced: bool) -> bytes:
    blob = _pickle(exc, forced=forced)
    with trial():
        opened = loads(blob)
    if type(opened) is not type(exc) or message_of(opened) != message_of(exc):
        raise ValueError("it does not come back as it was")
    return blob


def _pickle_type(cls: type) -> bytes:
    blob = _pickle(cls, forced=False)
    with trial():
        opened = loads(blob)
    if not isinstance(opened, type) or not issubclass(opened, BaseException):
        raise ValueError("it does not come back as it was")
    return blob


def _reduced(exc: BaseException, depth: int) -> BaseException:
    """A likeness of ``exc`` whose parts all travel."""
    if is_a(exc, BaseExceptionGroup):
        members = [_reduced(member, depth + 1) if depth < 5 else _part(member) for member in exc.exceptions[:100]]
        args: tuple[Any, ...] = (shorten(exc.message, _MAX_ITEM_TEXT), members)
    else:
        args = tuple(_part(item) for item in args_of(exc)[:100])
    fields = {name: _part(value) for name, value in fields_of(exc).items()}
    state = {name: _part(value) for name, value in list(vars(exc).items())[:1000]}
    return restore(bare_exception(type(exc), args), args, fields, state)


def _part(value: Any) -> Any:
    if isinstance(value, str):
        return shorten(value, _MAX_ITEM_TEXT)
    try:
        if len(_pickle(value, forced=True)) <= MAX_CAUSE_BYTES // 16:
            return value
    except BaseException:  # It may do anything, exit included.
        pass
    try:
        if isinstance(value, (bytes, bytearray)):
            return f"{bytes(value[:100])!r}… ({len(value):,} bytes)"
        return shorten(_REPR.repr(value), _MAX_ITEM_TEXT)
    except BaseException:
        return f"<{type(value).__name__}>"


def _attempt(step: Callable[[], bytes]) -> bytes | None:
    try:
        return step()
    except BaseException:  # A class may do anything while it is pickled or opened.
        return None
