"""Values to pickles: a fast way for plain data, a general one, and cloudpickle's rules where they are needed."""

from __future__ import annotations

import functools
import io
import sys
import types
from collections.abc import Callable, Collection, Hashable
from pickle import PickleBuffer, Pickler, PicklingError, dumps, loads
from typing import Any

from ray.exceptions import RayError, UnpicklableError
from ray.exceptions.base import cause_of, comes_from_handler, is_a
from ray.exceptions.shadowed import explain
from ray.headroom import TAKING, lacks
from ray.serialization import inplace
from ray.serialization.blob import Blob, Serialized
from ray.serialization.classes import travelling
from ray.serialization.culprit import reason_of, unpicklable
from ray.serialization.decorated import (
    CACHED,
    is_dispatcher,
    is_sent_by_value,
    reduce_cached,
    reduce_cached_property,
    reduce_dispatcher,
    reduce_dispatching_method,
)
from ray.serialization.imported import imported
from ray.serialization.source import reduce_code
from ray.whole_imports import import_whole

PROTOCOL = 5
#: Byte strings of this size or more are not copied into the pickle: the pickler hands them on as they are.
LARGE_BYTES = 64 * 1024
#: Types whose instances hold nothing else; matched exactly.
PRIMITIVES = frozenset({int, float, bool, type(None), str, bytes, complex})
_SEQUENCES = frozenset({list, tuple, set, frozenset})
_NEVER_LARGE = frozenset({int, float, bool, type(None), str, complex})

EMPTY_ARGS: bytes = dumps(((), {}), PROTOCOL)
"""The blob of a call without arguments."""

Reducer = Callable[[Any, list[Any]], Any]
_REDUCERS: dict[type, Reducer] = {
    memoryview: inplace.reduce_view,
    functools.cached_property: reduce_cached_property,
    functools.singledispatchmethod: reduce_dispatching_method,
    CACHED: lambda value, refs: reduce_cached(value) if _goes_by_value(value) else NotImplemented,
}
#: Functions and classes that were found where their names say; a failure to pickle empties it.
_IMPORTABLE: set[Any] = {type(None), type(...), type(NotImplemented)}
_holds_only_primitives = PRIMITIVES.issuperset
_holds_nothing_large = _NEVER_LARGE.issuperset
#: Libraries with reducers of their own that have not been met yet.
_unmet = inplace.LIBRARIES.keys()
#: {likeness: pickle} of arrays, whose pickles tell no more than that: making one takes longer than a look here.
_ALIKE_PICKLES: dict[Hashable, bytes] = {}
_MAX_ALIKE_PICKLES = 1000


def register_reducer(cls: type, fn: Reducer) -> None:
    """Pickle instances of exactly ``cls`` as ``fn(obj, refs)`` says.

    Args:
        cls: matched exactly; subclasses are not covered.
        fn: returns a reduce value (or NotImplemented for the usual way) and appends to ``refs`` what the receiver must
            be told about. May run twice for one value, with fresh lists.
    """
    _REDUCERS[cls] = fn
    inplace.ALIKE.pop(cls, None)


def serialize(value: Any) -> Serialized:
    """Pickle ``value``; a snapshot except for large buffers, see ``Serialized``.

    Raises:
        UnpicklableError: (a TypeError) with the path to the attribute that cannot be pickled.
    """
    if _is_plain(value):
        return Serialized(dumps(value, PROTOCOL), [])
    likeness_of = inplace.ALIKE.get(type(value))
    likeness = likeness_of(value) if likeness_of is not None else None
    return _pickle(value, value) if likeness is None else _pickle_alike(value, likeness)


def serialize_args(args: tuple[Any, ...], kwargs: dict[str, Any], target: Any = None) -> Serialized:
    """``serialize`` for the arguments of a call.

    Args:
        args: positional arguments.
        kwargs: keyword arguments.
        target: the function or class, asked for the names of parameters in an error's text.
    """
    blob = args_blob(args, kwargs)
    if blob is not None:
        return Serialized(blob, [])
    return _pickle((args, kwargs), (args, kwargs), target, is_call=True)


def serialize_small(value: Any) -> bytes | None:
    """The blob at once if the value is a primitive or a flat container of them and holds no large bytes, else None."""
    return dumps(value, PROTOCOL) if _is_plain(value) else None


def args_blob(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | None:
    """The blob of a call at once if ``serialize_small`` could do each argument, else None."""
    if not _holds_nothing_large(map(type, args)):
        for value in args:
            if not _is_plain(value):
                return None
    if kwargs:
        for value in kwargs.values():
            if not _is_plain(value):
                return None
    elif not args:
        return EMPTY_ARGS
    try:
        return dumps((args, kwargs), PROTOCOL)
    except (AttributeError, PicklingError, TypeError) as error:
        if comes_from_handler(error):
            raise
        return None  # the name of an argument may be of any class of strings


def dump_function(target: Any) -> tuple[bytes, list[Any]]:
    """Pickle a function or class for another process, by value where its module is not importable there.

    Returns:
        The pickle and the references inside, for instance in closures.

    Raises:
        UnpicklableError: with the path to what cannot be pickled, such as a closure variable.
    """
    file, refs = io.BytesIO(), list[Any]()
    pickler = by_value_pickler()(file, refs, None)
    try:
        pickler.dump(target)
    except RayError:
        raise
    except Exception as error:
        if comes_from_handler(error):
            raise
        _check_room(error)
        raise unpicklable(target, error, why_unpicklable) from error
    return file.getvalue(), refs


def load_function(blob: Blob) -> Any:
    """Undo ``dump_function``."""
    return loads(blob)


def pickle_by_value(value: Any, file: Any) -> list[Any]:
    """Write the pickle of any value into ``file`` in one pass, buffers inside; returns the references met."""
    refs: list[Any] = []
    by_value_pickler()(file, refs, None).dump(value)
    return refs


def _is_plain(value: Any) -> bool:
    """Whether it is a primitive, or a flat container of them, and holds no large bytes."""
    kind = type(value)
    if kind in _NEVER_LARGE:
        return True
    if kind is bytes:
        return len(value) < LARGE_BYTES
    if kind in _SEQUENCES:
        return _holds_nothing_large(map(type, value)) or _is_small(value)
    if kind is dict:
        values = value.values()
        if _holds_nothing_large(map(type, value)) and _holds_nothing_large(map(type, values)):
            return True
        return _is_small(values) and _is_small(value)
    return False


def _is_small(items: Collection[Any]) -> bool:
    return _holds_only_primitives(map(type, items)) and max(map(sys.getsizeof, items), default=0) < LARGE_BYTES


def _pickle_alike(value: Any, likeness: Hashable) -> Serialized:
    stream = _ALIKE_PICKLES.get(likeness)
    if stream is None:
        if len(_ALIKE_PICKLES) >= _MAX_ALIKE_PICKLES:
            _ALIKE_PICKLES.clear()
        stream = _ALIKE_PICKLES[likeness] = dumps(value, PROTOCOL, buffer_callback=lambda buffer: None)
    return Serialized.with_buffers([stream], [], [PickleBuffer(value).raw()])


def _pickle(value: Any, shown: Any, target: Any = None, *, is_call: bool = False) -> Serialized:
    if not _unmet.isdisjoint(sys.modules.keys()):
        inplace.add_reducers(_REDUCERS)
    refs: list[Any] = []
    buffers: list[PickleBuffer] = []
    cloudpickle = imported("cloudpickle")
    if cloudpickle is None or not cloudpickle.list_registry_pickle_by_value():
        file = _Pieces()
        pickler = _ValuePickler(file, PROTOCOL, buffer_callback=buffers.append)
        pickler.refs = refs
        try:
            pickler.dump(value)
        except RayError:
            raise
        except _NeedsCloudpickle:
            pass
        except Exception as error:
            if comes_from_handler(error):
                raise
            # A name may mean something else by now, or cloudpickle knows a way, or there is none: the second try tells.
            _IMPORTABLE.intersection_update({type(None), type(...), type(NotImplemented)})
        else:
            return _finish(file, refs, buffers)
    file, refs, buffers = _Pieces(), [], []
    pickler = by_value_pickler()(file, refs, buffers.append)
    try:
        pickler.dump(value)
    except RayError:
        raise
    except Exception as error:
        if comes_from_handler(error):
            raise
        _check_room(error)
        raise unpicklable(shown, error, why_unpicklable, target, is_call=is_call) from error
    return _finish(file, refs, buffers)


def _check_room(error: Exception) -> None:
    """Raise a RecursionError that is not the value's fault: the thread is near its limit without it."""
    reason = error if is_a(error, RecursionError) else cause_of(error)
    if reason is not None and is_a(reason, RecursionError) and lacks(TAKING):
        raise reason


class _Pieces(list[Any]):
    """A file that keeps what is written as it is: the pickler writes large byte strings themselves, not copies."""

    __slots__ = ()

    write = list.append

    def blobs(self) -> list[Blob]:
        """What was written. To be called while the pickler lives: its memory of what it has met keeps views valid."""
        return [_as_blob(item) for item in self]


def _as_blob(item: Any) -> Blob:
    if type(item) is bytes:
        return item
    # A view is of memory that only the pickler keeps; of a bytearray nothing moves while there is a view.
    return bytes(item) if isinstance(item, memoryview) else memoryview(item)


def _finish(file: _Pieces, refs: list[Any], buffers: list[PickleBuffer]) -> Serialized:
    if not buffers:
        if len(file) == 1:
            return Serialized(file[0], refs)
        return Serialized.of_pieces(file.blobs(), refs)
    try:
        views = [buffer.raw() for buffer in buffers]
    except BufferError as error:
        raise UnpicklableError("the value", f"{error}") from error
    return Serialized.with_buffers(file.blobs(), refs, views)


class _NeedsCloudpickle(Exception):  # noqa: N818 (control flow)
    """A function or class that only its value can bring across."""


class _ValuePickler(Pickler):
    """The general way: the C pickler, asked about each object that is not of a basic type."""

    refs: list[Any]

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        reducer = _REDUCERS.get(kind)
        if reducer is not None:
            return reducer(obj, self.refs)
        if (kind is types.FunctionType or issubclass(kind, type)) and obj not in _IMPORTABLE:
            if not is_importable(obj):
                raise _NeedsCloudpickle
            _IMPORTABLE.add(obj)
        return NotImplemented


@functools.cache
def by_value_pickler() -> Callable[..., Any]:
    """The pickler of cloudpickle with our reducers; made on first use, because the import takes long."""
    try:
        import_whole("cloudpickle")
        from cloudpickle import Pickler as CloudPickler
        from cloudpickle import register_pickle_by_value
    except Exception as error:
        explain(error)
        raise
    program = sys.modules.get("__mp_main__")
    if program is not None:  # the script, in a process that ``multiprocessing`` has spawned; nobody else can import it
        register_pickle_by_value(program)

    class ByValuePickler(CloudPickler):  # type: ignore[misc]
        def __init__(self, file: Any, refs: list[Any], buffer_callback: Callable[[PickleBuffer], Any] | None) -> None:
            super().__init__(file, PROTOCOL, buffer_callback)
            self.refs = refs

        def reducer_override(self, obj: Any) -> Any:
            reducer = _REDUCERS.get(type(obj))
            if reducer is not None:
                return reducer(obj, self.refs)
            if type(obj) is types.CodeType:
                return reduce_code(obj)
            if is_dispatcher(obj) and _goes_by_value(obj):
                return reduce_dispatcher(obj)
            reduced = super().reducer_override(obj)
            if reduced is NotImplemented and isinstance(obj, (types.FunctionType, type)) and _is_behind_an_object(obj):
                reduced = _reduce_class(obj) if isinstance(obj, type) else self._dynamic_function_reduce(obj)
            if reduced is NotImplemented and hasattr(type(obj), "__arrow_c_stream__"):
                return inplace.reduce_stream(obj)
            return travelling(obj, reduced) if isinstance(obj, type) else reduced

    return ByValuePickler


def is_importable(obj: Any) -> bool:
    """Whether another process finds this function or class by its module and name."""
    module_name, path = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(path, str) or module_name in ("__main__", "__mp_main__"):
        return False
    found: Any = sys.modules.get(module_name)
    for name in path.split("."):
        found = getattr(found, name, None)
    return found is obj and not _is_behind_an_object(obj)


def _goes_by_value(obj: Any) -> bool:
    return not is_importable(obj) or is_sent_by_value(obj)


def _is_behind_an_object(obj: Any) -> bool:
    """Whether a function or class would be found through what is neither module nor class, such as an actor class.

    Such a thing travels by value, as that which holds it does, so that both stay parts of one class.
    """
    found: Any = sys.modules.get(obj.__module__)
    for name in obj.__qualname__.split(".")[:-1]:
        found = getattr(found, name, None)
        if not isinstance(found, type):
            return found is not None
    return False


def _reduce_class(cls: type) -> Any:
    from cloudpickle.cloudpickle import _dynamic_class_reduce

    return _dynamic_class_reduce(cls)


class _Sink:
    """A file that keeps only the count of bytes."""

    nbytes = 0

    def write(self, data: Any) -> int:
        self.nbytes += len(data)
        return len(data)


def pickled_nbytes(value: Any) -> int | None:
    """Size of the pickle of any value with its buffers inside; None if it cannot be pickled. Keeps no copy."""
    sink = _Sink()
    try:
        pickle_by_value(value, sink)
    except Exception:
        return None
    return sink.nbytes


def why_unpicklable(value: Any) -> str | None:
    """Why ``value`` cannot be pickled, or None if it can."""
    try:
        pickle_by_value(value, _Sink())
    except Exception as error:
        if comes_from_handler(error):
            raise
        return reason_of(error)
    return None
