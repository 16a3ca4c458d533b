"""A driver that is killed leaves nothing behind, over either kind of socket."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil
import pytest

from ray.testing import leaks

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


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
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
