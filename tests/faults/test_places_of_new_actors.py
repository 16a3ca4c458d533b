"""A worker that is made an actor before it has come to wait for work is an actor like others."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import ray

LIMIT_S = 40.0
COUNT = 10


class Plain:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = self.most = 0

    def call(self, gate: Path) -> int:
        """How many have run at a time so far."""
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        until = time.monotonic() + LIMIT_S
        while not gate.exists() and time.monotonic() < until:
            time.sleep(0.005)
        with self.lock:
            self.running -= 1
        return self.most

    def ready(self) -> None:
        pass


KINDS: dict[str, tuple[Any, dict[str, Any], int]] = {
    "threads": (Plain, {"max_concurrency": 2}, 2),
    "groups": (Plain, {"max_concurrency": 1, "concurrency_groups": {"io": 1}}, 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_no_more_calls_at_a_time(start: Any, kind: str, tmp_path: Path) -> None:
    """Each in a process that is new; it was a matter of chance for each, one in four."""
    start(num_cpus=1, log_to_driver=False)
    cls, options, places = KINDS[kind]
    gate = tmp_path / "gate"
    actors = [ray.remote(num_cpus=0, **options)(cls).remote() for _ in range(COUNT)]
    ray.get([actor.ready.remote() for actor in actors], timeout=LIMIT_S)
    refs = [actor.call.remote(gate) for _ in range(4) for actor in actors]
    ray.wait(refs, timeout=300)  # more would begin by then
    gate.touch()
    assert max(ray.get(refs, timeout=LIMIT_S)) <= places
