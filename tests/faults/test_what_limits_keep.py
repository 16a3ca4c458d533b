"""Limits of time: they hold for tasks without results, too, and are over with the code that they are for."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
import threading
import time
from datetime import timedelta

import psutil
import pytest

import ray
from ray.exceptions import TaskTimeoutError
from ray.testing import eventually


@ray.remote(num_returns=0, timeout_s=0.3)
def compute_in_c(path):
    with open(path, "a") as file:
        file.write("ran\n")
    sum(range(10**13))


@ray.remote(timeout_s=600)
def take(data):
    return psutil.Process().memory_info().rss


def fill(fd):
    """Print until nobody takes more."""
    os.set_blocking(fd, False)
    for line in (b"x" * 999 + b"\n", b"\n"):  # to the last byte
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            try:
                os.write(fd, line)
                end = time.monotonic() + 0.3
            except BlockingIOError:
                time.sleep(0.01)
    os.set_blocking(fd, True)


@ray.remote
def fill_the_pipe():
    fill(1)


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


@pytest.mark.slow
def test_a_task_without_results_is_not_run_again(start, tmp_path):
    """Its interpreter is busy, so its process ends; that is the end of the task, as it is of others."""
    start(num_cpus=1, log_to_driver=False)
    compute_in_c.remote(tmp_path / "runs")
    eventually(lambda: any("TaskTimeoutError" in row["message"] for row in ray.error_info()))
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


@contextlib.contextmanager
def stuck_reader():
    """Nobody takes what this program prints on its stdout."""
    stuck, stdout = Stuck(), sys.stdout
    sys.stdout = stuck
    try:
        yield stuck
    finally:
        stuck.gate.set()
        sys.stdout = stdout


@pytest.mark.slow
def test_a_reader_who_takes_nothing_does_not_use_up_a_limit(start):
    """What the task has printed waits for room when its code has ended."""
    start(num_cpus=1)
    with stuck_reader():
        ray.get(fill_the_pipe.remote(), timeout=30)
        assert ray.get(print_a_little.remote(), timeout=30) == "done"


class PrintsOnALoop:
    @ray.method(timeout_s=0.5)
    async def call(self):
        print("without an end of line", end="")
        return "done"

    @ray.method(timeout_s=0.5)
    async def end_late(self):
        print("without an end of line", end="")
        await asyncio.sleep(30)

    async def fill(self):
        fill(1)


class PrintsInThreads:
    @ray.method(timeout_s=0.5)
    def call(self):
        print("without an end of line", end="")
        return "done"

    @ray.method(timeout_s=0.5)
    def end_late(self):
        print("without an end of line", end="")
        while True:
            time.sleep(0.01)

    def fill(self):
        fill(1)


@pytest.mark.parametrize("cls", [PrintsInThreads, pytest.param(PrintsOnALoop, marks=pytest.mark.slow)])
def test_nor_one_of_a_call_beside_others(start, cls):
    """Its owner, which has a clock for it, is told that its code has ended; of one that has not, it is not."""
    start(num_cpus=1)
    actor = ray.remote(cls).options(max_concurrency=4).remote()
    with stuck_reader() as stuck:
        ray.get(actor.fill.remote(), timeout=30)
        with pytest.raises(TaskTimeoutError):
            ray.get(actor.end_late.remote(), timeout=30)
        done = actor.call.remote()
        ray.wait([done], timeout=timedelta(seconds=1.5))  # its owner's clock does not wait for so long
        stuck.gate.set()
        assert ray.get(done, timeout=30) == "done"
