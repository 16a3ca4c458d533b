"""Of calls that cannot be sent nothing is left: no object, no hold on another's, no process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ray
from ray.exceptions import UnpicklableError

PATIENCE_S = 30.0
#: The name of a keyword argument that is a reference travels as such, and this one cannot be encoded.
LONE = "a\udc80"


@ray.remote
def same(value: Any = None, **named: Any) -> Any:
    return value


@ray.remote
class Echo:
    def __init__(self, value: Any = None, **named: Any) -> None:
        self.value = value

    def same(self, value: Any = None, **named: Any) -> Any:
        return value


@ray.remote
def fails_likewise(refs: list[Any]) -> str:
    """Its caller owns the references: they are lent on."""
    echo = Echo.remote()
    for _ in range(3):
        for method in (same, echo.same):
            with pytest.raises(UnpicklableError):
                ray.get(method.remote(refs, **{LONE: ray.put(refs)}), timeout=PATIENCE_S)
        assert ray.get(same.remote(refs[0]), timeout=PATIENCE_S) == b"x" * 50_000
    with pytest.raises(UnpicklableError):
        Echo.remote(refs, **{LONE: refs[1]})
    return "as it should"


def test_nothing_is_left_of_calls_that_cannot_be_sent(start: Callable[..., Any]) -> None:
    start(num_cpus=3)
    refs = [ray.put(b"x" * 50_000), ray.put(2), ray.put(b"x" * 500_000)]
    assert ray.get(fails_likewise.remote(refs), timeout=PATIENCE_S) == "as it should"
    echo = Echo.remote()
    for _ in range(5):
        calls = [method.remote(b"x" * 200_000, **{LONE: ref}) for method in (same, echo.same) for ref in refs]
        for call in calls:
            with pytest.raises(UnpicklableError):
                ray.get(call, timeout=PATIENCE_S)
        with pytest.raises(UnpicklableError):
            Echo.remote(b"x" * 200_000, **{LONE: refs[0]})
        assert ray.get([same.remote(refs[1]), echo.same.remote(refs[1])], timeout=PATIENCE_S) == [2, 2]
