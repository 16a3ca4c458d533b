"""A worker ends between its lease and the first message to it: the owner that was to use it gets another one."""

from __future__ import annotations

import os
import signal

import pytest
from tests import victims

import ray
from ray.testing import eventually


@ray.remote
def double(value):
    return 2 * value


@ray.remote
def doubled_by_others(tasks):
    """A worker submits in its turn, and the only idle worker is dead by then."""
    idle = [pid for pid in victims.workers() if pid != os.getpid()]
    return kill_then_submit(idle, tasks)


def kill_then_submit(pids, tasks):
    with victims.node_stopped():
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            eventually(lambda pid=pid: not victims.alive(pid))
        refs = [double.remote(index) for index in range(tasks)]
    return ray.get(refs, timeout=20)


@pytest.mark.parametrize("tasks", [1, 5])
def test_tasks_get_another_worker(start, tasks):
    start(num_cpus=1, log_to_driver=False)
    assert ray.get(double.remote(1), timeout=20) == 2
    eventually(lambda: ray.available_resources().get("CPU") == 1)
    assert kill_then_submit(victims.workers(), tasks) == [2 * index for index in range(tasks)]


def test_tasks_of_a_task_get_another_worker(start):
    start(num_cpus=2, log_to_driver=False)
    ray.get([double.remote(index) for index in range(20)], timeout=20)
    eventually(lambda: ray.available_resources().get("CPU") == 2)
    assert ray.get(doubled_by_others.remote(3), timeout=30) == [0, 2, 4]
