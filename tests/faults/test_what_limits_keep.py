"""Limits of time: they hold for tasks without results, too, and keep nothing of calls that have ended."""

from __future__ import annotations

import time

import psutil
import pytest
from tests.faults import victims

import ray


@ray.remote(num_returns=0, timeout_s=0.3)
def compute_in_c(path):
    with open(path, "a") as file:
        file.write("ran\n")
    sum(range(10**13))


@ray.remote(timeout_s=600)
def take(data):
    return psutil.Process().memory_info().rss


@ray.remote(max_concurrency=4)
class Taker:
    @ray.method(timeout_s=600)
    def take(self, data):
        return psutil.Process().memory_info().rss


def test_a_task_without_results_is_not_run_again(start, tmp_path):
    """Its interpreter is busy, so its process ends; that is the end of the task, as it is of others."""
    start(num_cpus=1, log_to_driver=False)
    compute_in_c.remote(tmp_path / "runs")
    victims.until(lambda: any("TaskTimeoutError" in row["message"] for row in ray.error_info()))
    assert ray.get(take.remote(b""), timeout=30)  # on the one processor, so behind it
    time.sleep(1.0)
    assert (tmp_path / "runs").read_text() == "ran\n"


@pytest.mark.parametrize("kind", ["task", "call of an actor"])
def test_arguments_of_ended_calls_are_let_go(start, kind):
    """Whatever the limit is: here 100 times 90 kB, for ten minutes."""
    start(num_cpus=1)
    actor = Taker.remote()
    call = take if kind == "task" else actor.take
    first = max(ray.get([call.remote(bytes(90_000)) for _ in range(10)], timeout=30))
    for _ in range(20):
        last = ray.get([call.remote(bytes(90_000)) for _ in range(20)], timeout=30)[-1]
    assert last - first < 12_000_000
