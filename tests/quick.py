"""Which of many tests of the same kind belong to the quick run; the rest is marked slow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest


def first_of(values: Iterable[Any], quick: int = 1) -> list[Any]:
    """Parameters: so many of the first ones are for the quick run."""
    return [value if number < quick else later(value) for number, value in enumerate(values)]


def later(*values: Any) -> Any:
    """A parameter, or several together, that is left to the slow session."""
    return pytest.param(*values, marks=pytest.mark.slow)


def crossed(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    """All pairs: those with the first of either are for the quick run, so that it meets each value once."""
    return [
        pytest.param(one, other, id=f"{_name(one)}-{_name(other)}", marks=() if quick else pytest.mark.slow)
        for one in first
        for other in second
        for quick in [one is first[0] or other is second[0]]
    ]


def _name(value: Any) -> str:
    return str(getattr(value, "__name__", value))
