"""``__ray_terminate__`` ends an actor after the calls submitted before it, wherever those are by then."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

import ray
from ray.exceptions import RayActorError, TaskCancelledError

LIMIT_S = 40.0
CALLS = 20


class Plain:
    def ready(self) -> None:
        pass

    def slow(self, x: int) -> int:
        time.sleep(0.002)
        return x

    def first(self, file: Path) -> str:
        """Takes its process along the first time."""
        if not file.exists():
            file.touch()
            os._exit(1)
        return "second time"


class Grouped(Plain):
    @ray.method(concurrency_group="io")
    def slow(self, x: int) -> int:
        time.sleep(0.002)
        return x


class Async:
    async def ready(self) -> None:
        pass

    async def slow(self, x: int) -> int:
        await asyncio.sleep(0.002)
        return x

    async def first(self, file: Path) -> str:
        return Plain().first(file)

    async def ends_itself(self, me: Any) -> Any:
        return await me.inner.remote(me)

    async def inner(self, me: Any) -> Any:
        return await me.__ray_terminate__.remote()

    async def calls_itself(self, me: Any, begun: Path, gate: Path) -> str:
        begun.touch()  # noqa: ASYNC240 - takes no time
        until = time.monotonic() + LIMIT_S
        while not gate.exists() and time.monotonic() < until:  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.005)
        try:
            return str(await me.slow.remote(1))
        except RayActorError as error:
            return str(error)


class AsyncGrouped(Async):
    @ray.method(concurrency_group="io")
    async def slow(self, x: int) -> int:
        await asyncio.sleep(0.002)
        return x


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "serial": (Plain, {}),
    "threads": (Plain, {"max_concurrency": 3}),
    "groups": (Grouped, {"concurrency_groups": {"io": 2}}),
    "async": (Async, {"max_concurrency": 3}),
    "async groups": (AsyncGrouped, {"concurrency_groups": {"io": 2}}),
}


@ray.remote(num_cpus=0)
def once(gate: Path, value: int) -> int:
    until = time.monotonic() + LIMIT_S
    while not gate.exists() and time.monotonic() < until:
        time.sleep(0.005)
    return value


@ray.remote(num_cpus=0)
def has_it_call_itself(*args: Any) -> str:
    return ray.get(args[0].calls_itself.remote(*args), timeout=LIMIT_S)


@ray.remote(num_cpus=0)
def asks(actor: Any) -> list[int]:
    """Another caller, whose process has nothing else to do with the actor."""
    refs = [actor.slow.remote(i) for i in range(CALLS)]
    ray.get(actor.__ray_terminate__.remote(), timeout=LIMIT_S)
    return ray.get(refs, timeout=LIMIT_S)


def make(kind: str, **more: Any) -> Any:
    cls, options = KINDS[kind]
    return ray.remote(num_cpus=0, **options, **more)(cls).remote()


def has_ended(actor: Any) -> None:
    with pytest.raises(RayActorError, match="did not start"):
        ray.get(actor.slow.remote(0), timeout=LIMIT_S)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["unix", "zmq"])
def test_no_call_before_it_is_lost(start: Any, transport: str) -> None:
    start(num_cpus=2, transport=transport, log_to_driver=False)
    for kind in KINDS:
        for is_ready in (False, True):
            actor = make(kind)
            if is_ready:
                ray.get(actor.ready.remote(), timeout=LIMIT_S)
            refs = [actor.slow.remote(i) for i in range(CALLS)]
            ending = actor.__ray_terminate__.remote()
            assert ray.get(refs, timeout=LIMIT_S) == list(range(CALLS))
            assert ray.get(ending, timeout=LIMIT_S) is None
            has_ended(actor)
    assert ray.get(asks.remote(make("groups")), timeout=LIMIT_S) == list(range(CALLS))


def test_those_that_wait_for_arguments_come_first(start: Any, tmp_path: Path) -> None:
    start(num_cpus=2, log_to_driver=False)
    for kind in KINDS:
        gate = tmp_path / kind
        actor = make(kind)
        refs = [actor.slow.remote(0), actor.slow.remote(once.remote(gate, 1)), actor.slow.remote(2)]
        ending = actor.__ray_terminate__.remote()
        assert ray.get(refs[0], timeout=LIMIT_S) == 0
        assert ray.wait([ending], timeout=100)[0] == []
        gate.touch()
        assert ray.get(refs, timeout=LIMIT_S) == [0, 1, 2]
        assert ray.get(ending, timeout=LIMIT_S) is None
        has_ended(actor)


@pytest.mark.slow
def test_those_that_are_run_again_come_first(start: Any, tmp_path: Path) -> None:
    start(num_cpus=2, log_to_driver=False)
    for kind in KINDS:
        actor = make(kind, max_restarts=1, max_task_retries=1)
        refs = [actor.first.remote(tmp_path / kind), *(actor.slow.remote(i) for i in range(5))]
        ending = actor.__ray_terminate__.remote()
        assert ray.get(refs, timeout=LIMIT_S) == ["second time", *range(5)]
        assert ray.get(ending, timeout=LIMIT_S) is None
        has_ended(actor)


@pytest.mark.slow
def test_one_that_is_cancelled_does_not_hold_it_up(start: Any, tmp_path: Path) -> None:
    start(num_cpus=2, log_to_driver=False)
    for kind in KINDS:
        actor = make(kind)
        gate = tmp_path / kind
        ray.get(actor.ready.remote(), timeout=LIMIT_S)
        cancelled = actor.slow.remote(once.remote(gate, 1))
        ending = actor.__ray_terminate__.remote()
        ray.cancel(cancelled)
        assert ray.get(ending, timeout=LIMIT_S) is None
        gate.touch()
        with pytest.raises(TaskCancelledError):
            ray.get(cancelled, timeout=LIMIT_S)
        has_ended(actor)


@pytest.mark.parametrize("kind", ["async", "async groups"])
def test_a_method_may_wait_for_the_end_that_it_asks_for(start: Any, kind: str) -> None:
    start(num_cpus=2, log_to_driver=False)
    actor = make(kind)
    assert ray.get(actor.ends_itself.remote(actor), timeout=LIMIT_S) is None
    has_ended(actor)


def test_a_call_of_another_caller_does_not_wait_for_ever_for_the_actor_itself(start: Any, tmp_path: Path) -> None:
    start(num_cpus=2, log_to_driver=False)
    actor = make("async")
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    said = has_it_call_itself.remote(actor, begun, gate)
    until = time.monotonic() + LIMIT_S
    while not begun.exists() and time.monotonic() < until:
        time.sleep(0.005)
    assert ray.get(actor.__ray_terminate__.remote(), timeout=LIMIT_S) is None
    gate.touch()
    assert "did not start" in ray.get(said, timeout=LIMIT_S)
    has_ended(actor)
