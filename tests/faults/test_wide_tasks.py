"""A task that needs much at a time has its turn, though others use it up in small pieces without a pause."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import ray

PATIENCE_S = 40.0


@ray.remote
def narrow() -> None:
    time.sleep(0.02)


@ray.remote
def wide() -> str:
    return "ran"


@ray.remote(num_cpus=2)
class Wide:
    def work(self) -> str:
        return "ran"


def with_a_stream(ref: ray.ObjectRef[Any], then: Callable[[], object] = lambda: None) -> Any:
    """Keep six narrow ones in flight until it is ready."""
    running = [narrow.remote() for _ in range(6)]
    end = time.monotonic() + PATIENCE_S
    while not ray.wait([ref], timeout=0)[0]:
        assert time.monotonic() < end, "it does not get its turn"
        done, running = ray.wait(running, timeout=timedelta(seconds=0.05))
        running += [narrow.remote() for _ in done]
    then()
    ray.get(running)
    return ray.get(ref)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["task", "actor"])
def test_it_has_its_turn(start: Callable[..., object], kind: str) -> None:
    start(num_cpus=2)
    ray.get([narrow.remote() for _ in range(6)])
    if kind == "task":
        for options in ({"num_cpus": 2}, {"num_cpus": 1.5, "priority": 100}):
            assert with_a_stream(wide.options(**options).remote()) == "ran"
    else:
        actor = Wide.remote()
        assert with_a_stream(actor.work.remote(), lambda: ray.kill(actor)) == "ran"


def test_that_of_another_owner(start: Callable[..., object]) -> None:
    start(num_cpus=2)

    @ray.remote(num_cpus=0)
    class Streamer:
        def stream(self, refs: list[ray.ObjectRef[str]]) -> str:
            return with_a_stream(refs[0])

    streamer = Streamer.remote()
    ref = wide.options(num_cpus=2).remote()
    ray.get(ref)
    assert ray.get(streamer.stream.remote([wide.options(num_cpus=2).remote()]), timeout=PATIENCE_S) == "ran"
