"""From what a function returned to its ``num_returns`` values, packed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from ray.serialization import Serialized, serialize

#: What Python could take apart, though a function that returns one means a single value.
_SINGLE = (str, bytes, bytearray, memoryview)
_UNORDERED = (dict, set, frozenset)


def pack(value: object) -> Serialized:
    """The value as it is now, whatever becomes of it; what has been packed already stays as it is."""
    return value if type(value) is Serialized else serialize(value).snapshot()


def pack_returns(result: Any, num_returns: int) -> list[Serialized]:
    """The values of a task's objects; they borrow memory of ``result``, as ``Serialized`` says.

    With more than one, ``result`` is a tuple, a list, something else that can be indexed, or an iterator, and holds
    exactly as many. What comes from code of the user's, such as a generator, is packed before the next is asked for: it
    may change then.

    Raises:
        ValueError: it holds too few or too many, or is a single value such as a string.
        TypeError: it cannot be indexed, or a value cannot be pickled.
    """
    if num_returns == 1:
        return [serialize(result)]
    if num_returns == 0:
        return []
    if isinstance(result, Iterator):
        return _drawn(result, num_returns)
    return [value if type(value) is Serialized else serialize(value) for value in _split(result, num_returns)]


def _drawn(values: Iterator[Any], num_returns: int) -> list[Serialized]:
    packed = [pack(value) for value in itertools.islice(values, num_returns)]
    if len(packed) < num_returns:
        raise _wrong_count(str(len(packed)), num_returns)
    for _ in values:
        raise _wrong_count(f"{num_returns + 1} or more", num_returns)
    return packed


def _split(result: Any, num_returns: int) -> list[Any]:
    if isinstance(result, (tuple, list)):
        values = list(result)
    elif isinstance(result, _SINGLE):
        raise ValueError(
            f"Task returned {_a(result)}, which is one object, but num_returns={num_returns}: return a tuple or a list "
            f"of {num_returns}."
        )
    elif isinstance(result, _UNORDERED):
        raise _not_indexable(result, num_returns)
    else:
        values = _indexed(result, num_returns)
    if len(values) != num_returns:
        raise _wrong_count(str(len(values)), num_returns)
    return values


def streamable(values: Any) -> Iterable[Any]:
    """What a task with ``num_returns="streaming"`` returned, if it can be drawn from in an order that is meant.

    Raises:
        TypeError: it is no generator, nor anything like one.
    """
    if not isinstance(values, Iterable) or isinstance(values, (*_SINGLE, *_UNORDERED)):
        name = type(values).__name__
        raise TypeError(f"num_returns='streaming' needs a generator, not {name}: yield the values, or return a list.")
    return values


def _indexed(result: Any, num_returns: int) -> list[Any]:
    try:
        count = len(result)
    except Exception:  # it is its own code, or has none
        count = None
    if count is not None and count != num_returns:
        raise _wrong_count(str(count), num_returns)
    borrows = hasattr(result, "__array_interface__")  # the rows of an array are all there
    values: list[Any] = []
    for index in range(num_returns):
        try:
            value = result[index]
        except IndexError:
            raise ValueError(
                f"Task returned {_a(result)} with too few objects, but num_returns={num_returns}."
            ) from None
        except (TypeError, KeyError):
            raise _not_indexable(result, num_returns) from None
        values.append(value if borrows else pack(value))
    if count is None:
        try:
            result[num_returns]
        except Exception:
            return values
        raise _wrong_count(f"{num_returns + 1} or more", num_returns)
    return values


def _wrong_count(count: str, num_returns: int) -> ValueError:
    return ValueError(f"Task returned {count} objects, but num_returns={num_returns}.")


def _not_indexable(result: Any, num_returns: int) -> TypeError:
    return TypeError(f"Task returned {_a(result)}, but num_returns={num_returns} needs a tuple or a list.")


def _a(value: object) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
