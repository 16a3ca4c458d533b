"""From what a function returned to its ``num_returns`` values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any


def split_returns(result: Any, num_returns: int) -> list[Any]:
    """The values of a task's objects.

    With more than one, ``result`` is indexed (or, if it is an iterator, drawn from); what it holds beyond
    ``num_returns`` is ignored.

    Raises:
        ValueError: it holds too few.
        TypeError: it cannot be indexed.
    """
    if num_returns == 1:
        return [result]
    if num_returns == 0:
        return []
    if isinstance(result, Iterator):
        result = list(itertools.islice(result, num_returns))
    if isinstance(result, (tuple, list)):
        values = list(result[:num_returns])
        if len(values) < num_returns:
            raise ValueError(f"Task returned {len(values)} objects, but num_returns={num_returns}.")
        return values
    try:
        return [result[index] for index in range(num_returns)]
    except IndexError:
        raise ValueError(
            f"Task returned a {type(result).__name__} with too few objects, but num_returns={num_returns}."
        ) from None
    except (TypeError, KeyError):
        raise TypeError(
            f"Task returned a {type(result).__name__}, but num_returns={num_returns} needs a tuple or a list."
        ) from None
