"""Batches of joblib as they travel: without their large arrays, each of which is sent once."""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from ray.api.objects import put
from ray.runtime.refs.ref import ObjectRef
from ray.serialization import dump_apart, load_apart


class SharedArrays:
    """The arrays that one call of ``Parallel`` has put, by identity, and as long as they live. Any thread."""

    def __init__(self) -> None:
        #: Arrays of so many bytes are put; None: none is.
        self.least_bytes: int | None = None
        self._lock = threading.RLock()
        #: {id: (the array, its copy)}
        self._known: dict[int, tuple[weakref.ref[Any], ObjectRef[Any]]] = {}

    def copy_of(self, array: Any) -> ObjectRef[Any]:
        """The copy of an array."""
        key = id(array)
        with self._lock:
            known = self._known.get(key)
            if known is not None and known[0]() is array:
                return known[1]
            copy = put(array)
            self._known[key] = (weakref.ref(array, functools.partial(self._forget, key)), copy)
            return copy

    def clear(self) -> None:
        """Let go of the copies: the program may change an array before its next call."""
        self._known = {}

    def _forget(self, key: int, gone: weakref.ref[Any]) -> None:
        known = self._known.get(key)
        if known is not None and known[0] is gone:
            self._known.pop(key, None)


def packed(batch: Callable[[], Any], shared: SharedArrays) -> tuple[bytes, list[ObjectRef[Any]], list[ObjectRef[Any]]]:
    """A batch as ``run_batch`` takes it: its pickle, the references in it, the copies of its large arrays.

    Raises:
        UnpicklableError: it cannot be sent.
    """
    least, arrays = shared.least_bytes, _kinds_of_arrays()
    #: {reference: number}
    given: dict[ObjectRef[Any], int] = {}
    copies: dict[ObjectRef[Any], int] = {}

    def name_of(value: Any) -> tuple[bool, int] | None:
        kind = type(value)
        if kind in arrays:
            if least is None or value.nbytes < least or value.dtype.hasobject:
                return None
            return True, copies.setdefault(shared.copy_of(value), len(copies))
        if kind is ObjectRef:
            return False, given.setdefault(value, len(given))
        return None

    return dump_apart(batch, name_of), list(given), list(copies)


def run_batch(batch: bytes, given: Sequence[ObjectRef[Any]], *arrays: Any) -> Any:
    """What a worker runs."""

    def part_of(name: tuple[bool, int]) -> Any:
        is_array, number = name
        return arrays[number] if is_array else given[number]

    return load_apart(batch, part_of)()


def _kinds_of_arrays() -> tuple[type, ...]:
    numpy = sys.modules.get("numpy")
    return () if numpy is None else (numpy.ndarray, numpy.memmap)
