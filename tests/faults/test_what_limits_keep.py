"""Limits of time: they hold for tasks without results, too, and are over with the code that they are for."""

from __future__ import annotations

import io
import os
import sys
import threading
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


@ray.remote
def fill_the_pipe():
    """Print until nobody takes more."""
    os.set_blocking(1, False)
    for line in (b"x" * 999 + b"\n", b"\n"):  # to the last byte
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            try:
                os.write(1, line)
                end = time.monotonic() + 0.3
            except BlockingIOError:
                time.sleep(0.01)
    os.set_blocking(1, True)


@ray.remote(timeout_s=1.5)
def print_a_little():
    print("without an end of line", end="")
    return "done"


class Stuck(io.StringIO):
    """Takes nothing while the gate is closed."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()

    def write(self, text):
        self.gate.wait(20)
        return super().write(text)


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


def test_a_reader_who_takes_nothing_does_not_use_up_a_limit(start, monkeypatch):
    """What the task has printed waits for room when its code has ended."""
    start(num_cpus=1)
    stuck = Stuck()
    monkeypatch.setattr(sys, "stdout", stuck)
    try:
        ray.get(fill_the_pipe.remote(), timeout=30)
        assert ray.get(print_a_little.remote(), timeout=30) == "done"
    finally:
        stuck.gate.set()
