"""``get`` of a list of which one has failed: it does not wait for the rest."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ray
from ray.experimental import async_api
from ray.testing import leaks


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    """One for all tests."""
    before = leaks.snapshot()
    with ray.init(num_cpus=4):
        yield
    leaks.assert_clean(before)


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """Takes the place of the check around each test, which wants no session."""


@ray.remote
def wait_for(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.005)
    return path


@ray.remote
def fail(text: str, path: str = "") -> None:
    while path and not os.path.exists(path):
        time.sleep(0.005)
    raise ValueError(text)


@ray.remote
class Failing:
    def fail(self) -> None:
        raise KeyError("in a method")

    def fail_when(self, path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.005)
        raise KeyError("later")

    def ref_of_failure(self) -> list[ray.ObjectRef[None]]:
        ref = fail.remote("borrowed")
        ray.wait([ref])
        return [ref]


@pytest.fixture
def unfinished(tmp_path: Path) -> Iterator[ray.ObjectRef[str]]:
    """A task that ends when the test has ended."""
    path = tmp_path / "end"
    ref = wait_for.remote(str(path))
    yield ref
    assert ray.wait([ref], timeout=0) == ([], [ref]), "the test has waited for it"
    path.touch()
    ray.get(ref)


def test_it_raises_as_soon_as_one_has_failed(unfinished: ray.ObjectRef[str]) -> None:
    for refs in ([fail.remote("a"), unfinished], [unfinished, fail.remote("a")]):
        with pytest.raises(ValueError, match="a"):
            ray.get(refs, timeout=30)


def test_one_that_had_failed_before(unfinished: ray.ObjectRef[str]) -> None:
    failed = fail.remote("before")
    ray.wait([failed])
    with pytest.raises(ValueError, match="before"):
        ray.get([unfinished, ray.put(1), failed])
    with pytest.raises(ValueError, match="before"):
        ray.get([unfinished, failed], timeout=0)


def test_the_first_in_the_list_of_those_that_have_failed(unfinished: ray.ObjectRef[str]) -> None:
    failed = [fail.remote(str(number)) for number in range(5)]
    ray.wait(failed, num_returns=5)
    with pytest.raises(ValueError, match="3"):
        ray.get([unfinished, failed[3], failed[1], failed[0]])


def test_one_that_fails_while_others_end(unfinished: ray.ObjectRef[str], tmp_path: Path) -> None:
    actor = Failing.remote()
    later = actor.fail_when.remote(str(tmp_path / "fail"))
    ready = [wait_for.remote("/") for _ in range(20)]
    release = release_later.remote(str(tmp_path / "fail"))
    with pytest.raises(KeyError, match="later"):
        ray.get([*ready, unfinished, later, later, unfinished], timeout=30)
    ray.get(release)


@ray.remote
def release_later(path: str) -> None:
    time.sleep(0.1)
    Path(path).touch()


def test_methods_cancelled_tasks_and_borrowed_refs(unfinished: ray.ObjectRef[str], tmp_path: Path) -> None:
    actor = Failing.remote()
    with pytest.raises(KeyError, match="in a method"):
        ray.get([unfinished, actor.fail.remote()], timeout=30)
    (borrowed,) = ray.get(actor.ref_of_failure.remote())
    with pytest.raises(ValueError, match="borrowed"):
        ray.get([unfinished, borrowed], timeout=30)
    cancelled = wait_for.remote(str(tmp_path / "never"))
    ray.cancel(cancelled)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get([unfinished, cancelled], timeout=30)


def test_nothing_failed_in_time(unfinished: ray.ObjectRef[str]) -> None:
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get([unfinished, ray.put(1)], timeout=0.05)


def test_inside_a_task(unfinished: ray.ObjectRef[str]) -> None:
    @ray.remote
    def get_both(refs: list[ray.ObjectRef[str]]) -> str:
        try:
            ray.get([refs[0], fail.remote("inside")])
        except ValueError as error:
            return str(error)
        return "nothing"

    assert "inside" in ray.get(get_both.remote([unfinished]), timeout=30)


def test_on_an_event_loop(unfinished: ray.ObjectRef[str]) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="a"):
            await asyncio.wait_for(asyncio.gather(unfinished, fail.remote("a")), 30)
        with pytest.raises(ValueError, match="b"):
            await asyncio.wait_for(async_api.get([unfinished, fail.remote("b")]), 30)
        failed = [fail.remote(str(number)) for number in range(5)]
        ray.wait(failed, num_returns=5)
        with pytest.raises(ValueError, match="3"):
            await asyncio.wait_for(async_api.get([unfinished, failed[3], failed[1]]), 30)

    asyncio.run(main())
