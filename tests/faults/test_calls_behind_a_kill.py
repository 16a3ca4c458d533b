"""What is said of the calls of an actor that ``ray.kill`` ends: which did not start, and which had."""

from __future__ import annotations

import importlib.util
import threading

import pytest
from tests import sessions

import ray
from ray.exceptions import RayActorError

LIMIT_S = 40.0

session = sessions.shared(num_cpus=4, log_to_driver=False)
nothing_left = sessions.unchecked()


class Threads:
    def ready(self) -> int:
        return 1

    def for_ever(self) -> None:
        threading.Event().wait()


class Async:
    async def ready(self) -> int:
        return 1

    async def for_ever(self) -> None:
        import asyncio

        await asyncio.Event().wait()


KINDS = [
    Threads,
    pytest.param(
        Async, marks=pytest.mark.skipif(importlib.util.find_spec("ray_async") is None, reason="needs ray-async")
    ),
]
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_calls_after_the_kill_did_not_start(kind):
    for _ in range(10):
        actor = ray.remote(kind).options(max_concurrency=2).remote()
        running = actor.for_ever.remote()
        ray.get(actor.ready.remote(), timeout=LIMIT_S)
        ray.kill(actor)
        with pytest.raises(RayActorError, match=r"ray\.kill\(\) was called\. The call to ready\(\) did not start"):
            ray.get(actor.ready.remote(), timeout=LIMIT_S)
        with pytest.raises(RayActorError, match=r"The call to for_ever\(\) had started; its result did not come"):
            ray.get(running, timeout=LIMIT_S)


@kinds
def test_calls_after_the_kill_go_to_the_next_process(kind):
    actor = ray.remote(kind).options(max_concurrency=2, max_restarts=-1).remote()
    for _ in range(3):
        running = actor.for_ever.remote()
        ray.get(actor.ready.remote(), timeout=LIMIT_S)
        ray.kill(actor, no_restart=False)
        assert ray.get([actor.ready.remote() for _ in range(20)], timeout=LIMIT_S) == [1] * 20
        with pytest.raises(RayActorError, match=r"The call to for_ever\(\) had started"):
            ray.get(running, timeout=LIMIT_S)
