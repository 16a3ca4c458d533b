"""``get`` and ``wait`` that also take tuples, dictionaries and arrays of references."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

import ray


def get(object_ids: Any, timeout: float | datetime.timedelta | None = None) -> Any:
    """As ``ray.get``, of a reference or of a collection.

    Args:
        object_ids: a reference; a list, tuple, set or array of references, of any shape; or a mapping, whose values
            are references or anything else.
        timeout: seconds, a timedelta, or None to wait for as long as it takes.

    Returns:
        The value; a list of the values, nested as the array is; or a dictionary with the values in place.

    Raises:
        As ``ray.get``.
    """
    if isinstance(object_ids, Mapping):
        refs = {key: item for key, item in object_ids.items() if isinstance(item, ray.ObjectRef)}
        values = ray.get(list(refs.values()), timeout)
        return {**object_ids, **dict(zip(refs, values, strict=True))}
    refs_of = _listed(object_ids)
    if not _is_nested(refs_of):
        return ray.get(refs_of, timeout)
    return _in_place(refs_of, iter(ray.get(list(_flat(refs_of)), timeout)))


def wait(
    object_ids: Any, num_returns: int = 1, timeout: float | datetime.timedelta | None = None
) -> tuple[list[ray.ObjectRef[Any]], list[ray.ObjectRef[Any]]]:
    """As ``ray.wait``, of a list, tuple, set or array of references.

    Args:
        object_ids: references, no two alike.
        num_returns: how many to wait for.
        timeout: **milliseconds**, a timedelta, or None to wait for as long as it takes.

    Raises:
        As ``ray.wait``.
    """
    return ray.wait(_listed(object_ids), num_returns, timeout)


def _listed(given: Any) -> Any:
    """A list for what can be told to be a collection; anything else as it is, for ``ray`` to refuse."""
    if isinstance(given, (tuple, set, frozenset)):
        return list(given)
    return given.tolist() if hasattr(given, "__array_interface__") else given


def _is_nested(refs: Any) -> bool:
    return isinstance(refs, list) and bool(refs) and all(isinstance(each, list) for each in refs)


def _flat(refs: list[Any]) -> Iterator[Any]:
    if not _is_nested(refs):
        yield from refs
        return
    for each in refs:
        yield from _flat(each)


def _in_place(refs: list[Any], values: Iterator[Any]) -> list[Any]:
    if not _is_nested(refs):
        return [next(values) for _ in refs]
    return [_in_place(each, values) for each in refs]
