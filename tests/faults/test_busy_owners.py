"""Objects whose owner's interpreter is busy, as far as its memory is not needed for them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.faults.busy import Hold

import ray
from ray.testing import leaks

PATIENCE_S = 25.0
LARGE = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    """One for all tests, with a store that processes share."""
    pytest.importorskip("ray_store_plasma")
    before = leaks.snapshot()
    with ray.init(num_cpus=3, store="plasma"):
        yield
    leaks.assert_clean(before)


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """Takes the place of the check around each test, which wants no session."""


@ray.remote
def make(value: Any, path: str = "") -> Any:
    while path and not os.path.exists(path):
        time.sleep(0.005)
    return value


@ray.remote
def make_large(path: str = "") -> Any:
    if path:
        Path(path + ".begun").touch()
    while path and not os.path.exists(path):
        time.sleep(0.005)
    return np.ones(LARGE, np.uint8)


@ray.remote
def fail() -> None:
    raise KeyError("of the owner's task")


@ray.remote
def look_into(value: Any) -> int:
    return len(value)


@ray.remote
def look_inside(refs: list[ray.ObjectRef[Any]]) -> list[int]:
    return [len(value) for value in ray.get(refs)]


@ray.remote(num_cpus=0)
class Owner:
    """Makes objects, hands out refs, and is busy then."""

    def put(self, *values: Any) -> list[ray.ObjectRef[Any]]:
        self.refs = [ray.put(value) for value in values]
        return self.refs

    def put_large(self) -> list[ray.ObjectRef[Any]]:
        self.refs = [ray.put(np.ones(LARGE, np.uint8))]
        return self.refs

    def results(self) -> list[ray.ObjectRef[Any]]:
        self.refs = [make.remote("small"), make.remote(7), make_large.remote()]
        ray.wait(self.refs, num_returns=len(self.refs))
        return self.refs

    def failed(self) -> list[ray.ObjectRef[Any]]:
        ref = fail.remote()
        ray.wait([ref])
        return [ref]

    def large_later(self, path: str) -> list[ray.ObjectRef[Any]]:
        self.refs = [make_large.remote(path)]
        while not os.path.exists(path + ".begun"):
            time.sleep(0.005)
        return self.refs

    def nested(self) -> list[ray.ObjectRef[Any]]:
        return [ray.put([ray.put("inner")])]

    def hold(self, hold: Hold) -> int:
        return hold()


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Calls a method of an owner, and returns its result when the owner is busy."""
    owner = Owner.remote()
    hold = Hold(tmp_path)
    held = []

    def call(method: str, *args: Any) -> Any:
        result = ray.get(getattr(owner, method).remote(*args), timeout=PATIENCE_S)
        held.append(owner.hold.remote(hold))
        hold.await_held()
        return result

    yield call
    assert ray.wait(held, timeout=0)[0] == [], "the test has waited for the owner"
    hold.let_go()
    ray.get(held)


def test_small_and_large_values_that_were_there(busy: Callable[..., Any]) -> None:
    refs = busy("results")
    assert ray.wait(refs, num_returns=3, timeout=PATIENCE_S * 1000)[1] == []
    small, number, large = ray.get(refs, timeout=PATIENCE_S)
    assert (small, number, large.sum()) == ("small", 7, LARGE)


@pytest.mark.parametrize("values", [("a",), (1, None, [2], {"x": 1.5}), (np.arange(4),)], ids=["one", "some", "array"])
def test_small_values_that_were_put(busy: Callable[..., Any], values: tuple[Any, ...]) -> None:
    refs = busy("put", *values)
    assert repr(ray.get(refs, timeout=PATIENCE_S)) == repr(list(values))


def test_a_large_value_that_was_put_as_an_argument(busy: Callable[..., Any]) -> None:
    refs = busy("put_large")
    assert ray.get(look_into.remote(refs[0]), timeout=PATIENCE_S) == LARGE
    assert ray.get(look_inside.remote(refs), timeout=PATIENCE_S) == [LARGE]


def test_small_values_as_arguments_and_inside_them(busy: Callable[..., Any]) -> None:
    refs = busy("put", "four", "fives")
    assert ray.get(look_into.remote(refs[1]), timeout=PATIENCE_S) == 5
    assert ray.get(look_inside.remote(refs), timeout=PATIENCE_S) == [4, 5]


def test_a_failure(busy: Callable[..., Any]) -> None:
    (ref,) = busy("failed")
    with pytest.raises(KeyError, match="of the owner's task"):
        ray.get(ref, timeout=PATIENCE_S)


def test_a_large_result_that_comes_while_its_owner_is_busy(busy: Callable[..., Any], tmp_path: Path) -> None:
    (ref,) = busy("large_later", str(tmp_path / "go"))
    assert ray.wait([ref], timeout=100) == ([], [ref])
    (tmp_path / "go").touch()
    assert ray.get(ref, timeout=PATIENCE_S).sum() == LARGE


def test_a_large_result_that_is_awaited(busy: Callable[..., Any], tmp_path: Path) -> None:
    (ref,) = busy("large_later", str(tmp_path / "go"))

    async def main() -> int:
        waiting = asyncio.ensure_future(asyncio.wait_for(ref, PATIENCE_S))
        await asyncio.sleep(0.05)
        (tmp_path / "go").touch()
        return int((await waiting).sum())

    assert asyncio.run(main()) == LARGE


def test_a_ref_that_went_on_from_one_borrower_to_the_next(busy: Callable[..., Any]) -> None:
    refs = busy("put", "abc")

    @ray.remote
    def pass_on(refs: list[ray.ObjectRef[str]]) -> list[ray.ObjectRef[str]]:
        return refs

    (ref,) = ray.get(pass_on.remote(refs), timeout=PATIENCE_S)
    assert ray.get(ref, timeout=PATIENCE_S) == "abc"


def test_refs_inside_values_are_handed_over_by_their_owner() -> None:
    owner = Owner.remote()
    (outer,) = ray.get(owner.nested.remote())
    (inner,) = ray.get(outer, timeout=PATIENCE_S)
    del outer
    assert ray.get(inner, timeout=PATIENCE_S) == "inner"
