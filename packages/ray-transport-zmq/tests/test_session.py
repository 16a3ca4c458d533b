"""Whole sessions over this transport: what they open, how soon they notice a death, and that nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

import ray
from ray.exceptions import RayActorError, WorkerCrashedError
from ray.testing import leaks

SCHEMES = ["ipc", "tcp"]


@pytest.fixture(params=SCHEMES)
def session(request):
    options = {"transport": {"scheme": request.param}}
    with ray.init(num_cpus=2, store="heap", transport="zmq", options=options, log_to_driver=False):
        yield request.param


@ray.remote
def identity(value, wait_s=0.0):
    time.sleep(wait_s)
    return value


@ray.remote(max_retries=0)
def die():
    os.kill(os.getpid(), signal.SIGKILL)


@ray.remote
class Keeper:
    def __init__(self):
        self.values = []

    def add(self, value):
        self.values.append(value)
        return len(self.values)

    def pid(self):
        return os.getpid()

    def block(self):
        time.sleep(60)


def processes():
    """This one and all of its session."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def listeners():
    found = []
    for process in processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # one that only forked a worker
            connections = process.net_connections("inet")
            found += [each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN]
    return found


def test_what_a_session_opens(session):
    assert ray.get([identity.remote(number) for number in range(10)]) == list(range(10))
    if session == "ipc":
        assert listeners() == []
    else:
        assert set(listeners()) == {"127.0.0.1"}


def test_tasks_and_actors(session):
    keeper = Keeper.remote()
    assert ray.get([keeper.add.remote(number) for number in range(300)]) == list(range(1, 301))
    assert ray.get([identity.remote(number) for number in range(300)]) == list(range(300))
    refs = [identity.remote(identity.remote(number)) for number in range(20)]
    assert ray.get(refs) == list(range(20))


def test_large_values_go_both_ways(session):
    large = os.urandom(1 << 20) * 20
    assert ray.get(identity.remote(large)) == large
    assert ray.get(identity.remote(ray.put(large))) == large
    refs = [identity.remote(large) for _ in range(4)]
    assert all(value == large for value in ray.get(refs))


def test_a_killed_worker_is_noticed_at_once(session):
    ray.get(identity.remote(1))
    started = time.monotonic()
    with pytest.raises(WorkerCrashedError, match="SIGKILL"):
        ray.get(die.remote(), timeout=10)
    assert time.monotonic() - started < 2.0


def test_a_killed_actor_is_noticed_at_once(session):
    keeper = Keeper.remote()
    pid = ray.get(keeper.pid.remote())
    blocked = keeper.block.remote()
    os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(RayActorError):
        ray.get(blocked, timeout=10)
    assert time.monotonic() - started < 1.0


DRIVER = """
import ray, time
ray.init(num_cpus=2, store="heap", transport="zmq", options={"transport": {"scheme": "%s"}}, log_to_driver=False)

@ray.remote
def add(x):
    return x + 1

assert ray.get([add.remote(i) for i in range(100)])[-1] == 100
print(1, flush=True)
while True:
    ray.get([add.remote(i) for i in range(1000)])
"""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_killed_driver_leaves_nothing_behind(scheme, number):
    before = leaks.snapshot()
    command = [sys.executable, "-c", DRIVER % scheme]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver:
        assert driver.stdout.readline() == "1\n"
        assert len(psutil.Process(driver.pid).children(recursive=True)) >= 3
        driver.send_signal(number)
        driver.wait(10)
    leaks.assert_clean(before, timeout_s=5.0)
