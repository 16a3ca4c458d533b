"""``ray.cancel`` of what it is not for: calls of actors by force, and generators."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import sessions

import ray
from ray.exceptions import TaskCancelledError
from ray.testing import eventually

LIMIT_S = 20.0
NOT_FORCED = re.escape("force=True is not supported for calls of actors, such as ")


session = sessions.shared(num_cpus=2)
nothing_left = sessions.unchecked()


class Serial:
    def stands(self, begun: Path) -> None:
        begun.touch()
        time.sleep(60)

    def three(self) -> int:
        return 3

    def streams(self, begun: Path) -> Iterator[int]:
        yield 1
        self.stands(begun)


class Async:
    async def stands(self, begun: Path) -> None:
        begun.touch()  # noqa: ASYNC240 - takes no time
        await asyncio.sleep(60)

    async def three(self) -> int:
        return 3

    async def streams(self, begun: Path) -> Any:
        yield 1
        await self.stands(begun)


KINDS = pytest.mark.parametrize("cls", [Serial, Async])


@ray.remote(max_retries=0)
def task(begun: Path) -> None:
    begun.touch()
    time.sleep(60)


@KINDS
def test_calls_of_actors_are_not_cancelled_by_force_nor_is_anything_else(tmp_path: Path, cls: Any) -> None:
    actor = ray.remote(cls).options(num_cpus=0).remote()
    begun = [tmp_path / "call", tmp_path / "task"]
    running, other = actor.stands.remote(begun[0]), task.remote(begun[1])
    queued = actor.stands.remote(tmp_path / "queued")
    eventually(lambda: all(path.exists() for path in begun), LIMIT_S)
    for refs in (running, [running], [other, running], [other, queued], (other, running, queued)):
        with pytest.raises(
            ValueError, match=rf"{NOT_FORCED}{cls.__name__}\.stands: .*ray\.kill\(actor\).*ray\.cancel\(ref\)"
        ):
            ray.cancel(refs, force=True)
    assert ray.wait([running, other], timeout=0)[0] == []
    ray.cancel([queued, running])
    ray.cancel(other, force=True)
    for ref in (running, queued, other):
        with pytest.raises(TaskCancelledError):
            ray.get(ref, timeout=LIMIT_S)
    assert ray.get(actor.three.remote(), timeout=LIMIT_S) == 3


@KINDS
def test_those_that_have_ended_are_left_alone(cls: Any) -> None:
    actor = ray.remote(cls).options(num_cpus=0).remote()
    done = actor.three.remote()
    assert ray.get(done, timeout=LIMIT_S) == 3
    ray.cancel([done, ray.put(1)], force=True)
    assert ray.get(done) == 3


def test_a_call_that_waits_for_its_arguments(tmp_path: Path) -> None:
    actor = ray.remote(Serial).options(num_cpus=0).remote()
    begun = task.remote(tmp_path / "begun")
    waiting = actor.stands.remote(begun)
    with pytest.raises(ValueError, match=NOT_FORCED):
        ray.cancel(waiting, force=True)
    ray.cancel([waiting, begun])


def test_whoever_borrows_the_ref_has_it_cancelled_without_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    actor = ray.remote(Serial).options(num_cpus=0).remote()

    @ray.remote
    def cancels(refs: list[Any]) -> None:
        ray.cancel(refs, force=True)

    begun = tmp_path / "begun"
    running = actor.stands.remote(begun)
    eventually(begun.exists, LIMIT_S)
    with caplog.at_level(logging.WARNING, "ray"):
        ray.get(cancels.remote([running]), timeout=LIMIT_S)
        with pytest.raises(TaskCancelledError):
            ray.get(running, timeout=LIMIT_S)
        eventually(lambda: bool(caplog.records), LIMIT_S)  # a thread of its own tells
    (record,) = caplog.records
    assert record.getMessage().startswith("Serial.stands is a call of an actor, and was cancelled without force=True")
    assert ray.get(actor.three.remote(), timeout=LIMIT_S) == 3


@KINDS
def test_a_generator_is_closed_instead(tmp_path: Path, cls: Any) -> None:
    actor = ray.remote(cls).options(num_cpus=0).remote()
    begun = tmp_path / "begun"
    stream = actor.streams.options(num_returns="streaming").remote(begun)
    assert ray.get(next(stream), timeout=LIMIT_S) == 1
    eventually(begun.exists, LIMIT_S)
    text = r"<ObjectRefGenerator, 1 ref ahead> \(ObjectRefGenerator\)\. Its close\(\) cancels the task"
    for wrong in (stream, [stream]):
        with pytest.raises(TypeError, match=text):
            ray.cancel(wrong)
    with pytest.raises(TypeError) as raised:
        ray.cancel([1])  # type: ignore[list-item]
    assert "close()" not in str(raised.value)
    stream.close()
    assert ray.get(actor.three.remote(), timeout=LIMIT_S) == 3


class CleansUp:
    async def stands(self, begun: Path, end: Path) -> None:
        begun.touch()  # noqa: ASYNC240 - takes no time
        try:
            await asyncio.sleep(60)
        finally:
            while not end.exists():  # noqa: ASYNC110, ASYNC240
                await asyncio.sleep(0.01)


def test_whoever_awaits_a_call_is_told_what_ends_it(tmp_path: Path) -> None:
    actor = ray.remote(CleansUp).options(num_cpus=0).remote()
    begun, end = tmp_path / "begun", tmp_path / "end"

    async def leave() -> None:
        awaiting = asyncio.ensure_future(actor.stands.remote(begun, end).as_coroutine(cancel=True, grace_s=0.1))
        while not begun.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        awaiting.cancel()
        await awaiting

    with pytest.raises(TimeoutError, match=r"still runs after 0\.1 s; ray\.kill\(actor\) ends its actor"):
        asyncio.run(leave())
    end.touch()
