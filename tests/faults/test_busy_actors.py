"""Time limits and cancels of calls in an actor whose interpreter is kept by a call of it."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests import sessions
from tests.faults.busy import Hold, endless_match, endless_sum

import ray
from ray.exceptions import TaskCancelledError, TaskTimeoutError
from ray.testing import eventually

#: Long, as the machine may be busy; without the mend it would take until the test lets go.
PATIENCE_S = 25.0
LIMIT_S = 0.3
#: So many calls are not kept with their caller while another one runs.
SENT = 64


session = sessions.shared(num_cpus=2)
nothing_left = sessions.unchecked()


@pytest.fixture
def hold(tmp_path: Path) -> Hold:
    return Hold(tmp_path)


class Calls:
    """What is called, in each kind of actor."""

    def __init__(self) -> None:
        self.begun = 0
        self.made: list[str] = []

    def held(self, hold: Hold, inside: list[ray.ObjectRef[Any]] | None = None) -> Any:
        self.begun += 1
        pid = hold()
        if inside is None:
            return pid
        assert [len(ray.get(ref, timeout=0)) for ref in inside] == [300_000]
        made = ray.put(b"x" * 300_000)
        self.made.append(made.hex())
        return made, b"y" * 300_000

    def begun_so_far(self) -> int:
        return self.begun

    def made_inside(self) -> list[str]:
        return self.made

    def match(self) -> object:
        return endless_match()

    def begin(self, path: str) -> None:
        if path:
            Path(path).touch()

    def add(self, begun: str = "") -> object:
        self.begin(begun)
        return endless_sum()

    def count(self) -> int:
        self.begun += 1
        return self.begun


class AsyncCalls(Calls):
    """On a loop."""

    async def stands(self, seconds: float, begun: str = "") -> str:
        self.begin(begun)
        await asyncio.sleep(seconds)
        return "stood"

    async def stream(self, hold: Hold) -> Any:
        yield 1
        hold()
        yield 2


class ThreadedCalls(Calls):
    """On threads."""

    def stands(self, seconds: float, begun: str = "") -> str:
        self.begin(begun)
        time.sleep(seconds)
        return "stood"

    def stream(self, hold: Hold) -> Any:
        yield 1
        hold()
        yield 2


KINDS: dict[str, Callable[[], Any]] = {
    "async": lambda: ray.remote(AsyncCalls).options(num_cpus=0).remote(),
    "threads": lambda: ray.remote(ThreadedCalls).options(num_cpus=0, max_concurrency=4).remote(),
    "groups": lambda: (
        ray.remote(AsyncCalls).options(num_cpus=0, concurrency_groups={"one": 2}, max_concurrency=4).remote()
    ),
}
CONCURRENT = pytest.mark.parametrize("kind", KINDS)
SERIAL: dict[str, Callable[[], Any]] = {"serial": lambda: ray.remote(ThreadedCalls).options(num_cpus=0).remote()}


# --- limits -----------------------------------------------------------------------------------------------------------


@CONCURRENT
def test_the_caller_is_told_in_time_and_the_actor_goes_on(hold: Hold, kind: str) -> None:
    actor = KINDS[kind]()
    ray.get(actor.count.remote(), timeout=PATIENCE_S)
    late = actor.held.options(timeout_s=LIMIT_S).remote(hold)
    pid = hold.await_held()
    other = actor.count.remote()
    with pytest.raises(TaskTimeoutError, match=f"timeout_s={LIMIT_S} and could not be ended in time: it may go on"):
        ray.get(late, timeout=PATIENCE_S)
    assert os.path.exists(f"/proc/{pid}")
    hold.let_go()
    assert ray.get(other, timeout=PATIENCE_S) == 3
    with pytest.raises(TaskTimeoutError):
        ray.get(late, timeout=PATIENCE_S)


@pytest.mark.parametrize("kind", ["async", "threads"])
def test_so_is_the_caller_of_one_that_is_held_up_by_it(hold: Hold, tmp_path: Path, kind: str) -> None:
    actor = KINDS[kind]()
    ray.get(actor.count.remote(), timeout=PATIENCE_S)
    late = actor.stands.options(timeout_s=0.5).remote(2.0, str(tmp_path / "late"))
    unlimited = actor.stands.remote(0.1, str(tmp_path / "unlimited"))
    eventually(lambda: (tmp_path / "late").exists() and (tmp_path / "unlimited").exists(), PATIENCE_S)
    holds = actor.held.remote(hold)
    hold.await_held()
    with pytest.raises(TaskTimeoutError):
        ray.get(late, timeout=PATIENCE_S)
    hold.let_go()
    assert ray.get(unlimited, timeout=PATIENCE_S) == "stood"
    assert ray.get(holds, timeout=PATIENCE_S) > 0


@pytest.mark.parametrize("code", ["match", "add"])
def test_calls_in_c(code: str) -> None:
    actor = KINDS["async"]()
    ray.get(actor.count.remote(), timeout=PATIENCE_S)
    with pytest.raises(TaskTimeoutError):
        ray.get(getattr(actor, code).options(timeout_s=LIMIT_S).remote(), timeout=PATIENCE_S)
    ray.kill(actor)


def test_several_limits_are_told_at_their_times(hold: Hold) -> None:
    actor = KINDS["async"]()
    ray.get(actor.count.remote(), timeout=PATIENCE_S)
    refs = [actor.stands.options(timeout_s=seconds).remote(60) for seconds in (0.6, 0.45, 50.0)]
    holds = actor.held.options(timeout_s=0.3).remote(hold)
    hold.await_held()
    for ref in (holds, refs[1], refs[0]):
        with pytest.raises(TaskTimeoutError):
            ray.get(ref, timeout=PATIENCE_S)
    assert ray.wait([refs[2]], timeout=0)[0] == []
    hold.let_go()
    ray.kill(actor)


@pytest.mark.parametrize("kind", ["async", "threads"])
def test_a_stream(hold: Hold, kind: str) -> None:
    actor = KINDS[kind]()
    stream = actor.stream.options(num_returns="streaming", timeout_s=2 * LIMIT_S).remote(hold)
    assert ray.get(next(stream), timeout=PATIENCE_S) == 1
    hold.await_held()
    with pytest.raises(TaskTimeoutError):
        ray.get(next(stream), timeout=PATIENCE_S)
    hold.let_go()
    assert ray.get(actor.count.remote(), timeout=PATIENCE_S) == 1


@ray.remote
def calls(actor: Any, hold: Hold) -> str:
    """A caller that is a worker."""
    try:
        return str(ray.get(actor.held.options(timeout_s=LIMIT_S).remote(hold)))
    except TaskTimeoutError:
        return "told"


def test_a_caller_in_a_task(hold: Hold) -> None:
    actor = KINDS["async"]()
    ray.get(actor.count.remote(), timeout=PATIENCE_S)
    assert ray.get(calls.remote(actor, hold), timeout=PATIENCE_S) == "told"
    hold.let_go()


def listed() -> set[str]:
    """The ids of all objects that there are."""
    command = [sys.executable, "-m", "ray", "memory", "--format", "json", "--limit", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    return {entry["object_id"] for report in json.loads(done.stdout) for entry in report["objects"]}


@pytest.mark.parametrize("kind", ["async", "threads"])
def test_what_comes_late_is_dropped_and_its_arguments_last_as_long(hold: Hold, kind: str) -> None:
    actor = KINDS[kind]()
    ray.get(actor.count.remote(), timeout=PATIENCE_S)
    argument = ray.put(b"z" * 300_000)
    ids = [argument.hex()]
    late = actor.held.options(timeout_s=LIMIT_S).remote(hold, [argument])
    del argument
    hold.await_held()
    with pytest.raises(TaskTimeoutError):
        ray.get(late, timeout=PATIENCE_S)
    gc.collect()
    hold.let_go()
    eventually(lambda: ray.get(actor.made_inside.remote(), timeout=PATIENCE_S), PATIENCE_S)
    ids += ray.get(actor.made_inside.remote())
    with pytest.raises(TaskTimeoutError):
        ray.get(late, timeout=PATIENCE_S)
    ids.append(late.hex())
    del late
    end = time.monotonic() + PATIENCE_S
    while left := listed() & set(ids):
        assert time.monotonic() < end, [ids.index(id) for id in left]


# --- cancels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "serial"])
def test_cancel_of_what_cannot_be_interrupted_says_so_once(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    actor = (KINDS | SERIAL)[kind]()
    ref = actor.add.remote(str(tmp_path / "begun"))
    eventually((tmp_path / "begun").exists, PATIENCE_S)
    with caplog.at_level(logging.WARNING, "ray"):
        ray.cancel(ref)
        ray.cancel(ref)
        eventually(lambda: ray.wait([ref], timeout=timedelta(seconds=0.01)) and caplog.records, PATIENCE_S)
        ray.wait([ref], timeout=timedelta(seconds=0.2))
    (record,) = caplog.records
    assert "Calls.add was cancelled and has not ended after 1 s" in record.getMessage()
    assert "ray.kill(actor)" in record.getMessage()
    ray.kill(actor)
    with pytest.raises((TaskCancelledError, ray.exceptions.RayActorError)):
        ray.get(ref, timeout=PATIENCE_S)


def test_cancels_of_many_calls_that_cannot_be_interrupted_say_so_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    actor = KINDS["async"]()
    refs = [actor.add.remote(str(tmp_path / f"begun{index}")) for index in range(4)]
    eventually((tmp_path / "begun0").exists, PATIENCE_S)
    with caplog.at_level(logging.WARNING, "ray"):
        ray.cancel(refs)
        eventually(lambda: ray.wait(refs, timeout=timedelta(seconds=0.01)) and caplog.records, PATIENCE_S)
        ray.wait(refs, timeout=timedelta(seconds=0.2))
    (record,) = caplog.records
    assert record.getMessage().endswith("with all calls. The same goes for 3 more.")
    ray.kill(actor)


def test_a_queued_call_is_answered_at_once_and_never_runs(hold: Hold) -> None:
    actor = SERIAL["serial"]()
    ray.get(actor.count.remote(), timeout=PATIENCE_S)
    holds = actor.held.remote(hold)
    hold.await_held()
    queued = [actor.count.remote() for _ in range(SENT)]
    ray.cancel(queued[:10])
    for ref in queued[:10]:
        with pytest.raises(TaskCancelledError, match=r"was cancelled\.$"):
            ray.get(ref, timeout=PATIENCE_S)
    assert ray.wait([holds, queued[10]], timeout=0)[0] == []
    hold.let_go()
    assert ray.get(queued[10:], timeout=PATIENCE_S) == [*range(3, SENT - 7)]
    ray.cancel(queued)
    assert ray.get(actor.count.remote(), timeout=PATIENCE_S) == SENT - 7


def test_more_than_are_noted_are_cancelled_all_the_same(hold: Hold) -> None:
    actor = SERIAL["serial"]()
    holds = actor.held.remote(hold)
    hold.await_held()
    queued = [actor.count.remote() for _ in range(200)]
    ray.cancel(queued)
    assert len(ray.wait(queued, num_returns=50, timeout=timedelta(seconds=PATIENCE_S))[0]) == 50
    hold.let_go()
    ray.get(holds, timeout=PATIENCE_S)
    again = 0
    for ref in queued:
        try:
            ray.get(ref, timeout=PATIENCE_S)
            again += 1
        except TaskCancelledError:
            pass
    assert ray.get(actor.count.remote(), timeout=PATIENCE_S) == 2 + again


@ray.remote
def cancels(actor: Any, hold: Hold) -> str:
    """A caller whose call is behind another caller's."""
    ray.get(actor.count.remote())  # they are connected
    hold.await_held()
    ref = actor.count.remote()
    ray.cancel(ref)
    try:
        return str(ray.get(ref))
    except TaskCancelledError as error:
        return str(error)


def test_behind_another_callers_call(hold: Hold) -> None:
    actor = SERIAL["serial"]()
    said = cancels.remote(actor, hold)
    eventually(lambda: ray.get(actor.begun_so_far.remote(), timeout=PATIENCE_S) == 1, PATIENCE_S)
    holds = actor.held.remote(hold)
    text = "was cancelled: whether it had run by then is not known, as its actor is too busy to say so."
    assert text in ray.get(said, timeout=PATIENCE_S)
    hold.let_go()
    ray.get(holds, timeout=PATIENCE_S)
    assert ray.get(actor.count.remote(), timeout=PATIENCE_S) == 3


def test_the_queue_of_a_free_actor_is_as_it_was(tmp_path: Path) -> None:
    """Its process has time to answer, and what it has begun is interrupted."""
    actor = SERIAL["serial"]()
    running, queued = actor.stands.remote(60), actor.count.remote()
    time.sleep(0.1)
    ray.cancel([queued, running])
    for ref in (queued, running):
        with pytest.raises(TaskCancelledError):
            ray.get(ref, timeout=PATIENCE_S)
    assert ray.get(actor.count.remote(), timeout=PATIENCE_S) == 1


def test_the_actor_dies_with_cancelled_calls(hold: Hold) -> None:
    actor = ray.remote(ThreadedCalls).options(num_cpus=0, max_restarts=1).remote()
    ray.get(actor.count.remote(), timeout=PATIENCE_S)
    holds = actor.held.remote(hold)
    pid = hold.await_held()
    queued = [actor.count.remote() for _ in range(SENT)]
    ray.cancel(queued[:10:2])
    for ref in queued[:10:2]:
        with pytest.raises(TaskCancelledError):
            ray.get(ref, timeout=PATIENCE_S)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(holds, timeout=PATIENCE_S)
    others = [ref for ref in queued if ref not in queued[:10:2]]
    assert ray.get(others, timeout=PATIENCE_S) == [*range(1, SENT - 4)]
