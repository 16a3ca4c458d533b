"""Errors of ``init`` show at most one frame of ray's own, and a second Ctrl-C adds no traceback."""

import os
import signal
import subprocess
import sys
import time
import traceback

import pytest

import ray

PACKAGE = os.path.dirname(ray.__file__) + os.sep

WRONG = [
    {"num_cpus": -1}, {"store": "nope"}, {"nope": 1}, {"address": "x"}, {"resources": 3}, {"log_to_driver": "no"},
    {"options": {"store": {"nope": 1}}},
]  # fmt: skip


@pytest.mark.parametrize("options", WRONG)
def test_init(options, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_CORE_FULL_TRACEBACK", raising=False)
    with pytest.raises((TypeError, ValueError, ray.exceptions.RayError)) as caught:
        ray.init(**options)
    own = [each for each in traceback.extract_tb(caught.value.__traceback__) if each.filename.startswith(PACKAGE)]
    assert len(own) <= 1, own


def test_a_second_init(monkeypatch):
    monkeypatch.delenv("RAY_CORE_FULL_TRACEBACK", raising=False)
    with ray.init(local_mode=True), pytest.raises(RuntimeError, match="twice") as caught:
        ray.init()
    own = [each for each in traceback.extract_tb(caught.value.__traceback__) if each.filename.startswith(PACKAGE)]
    assert len(own) <= 1, own


WAITS = """
import time
import ray
ray.init(num_cpus=2)
@ray.remote
def f():
    time.sleep(100)
refs = [f.remote() for _ in range(4)]
print("ready", flush=True)
ray.get(refs)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the end of a program takes other ways")
@pytest.mark.parametrize("gap_s", [0.0, 0.01, 0.05])
def test_two_interrupts(gap_s):
    environment = {key: value for key, value in os.environ.items() if key != "RAY_CORE_FULL_TRACEBACK"}
    with subprocess.Popen(
        [sys.executable, "-c", WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.send_signal(signal.SIGINT)
        time.sleep(gap_s)  # what is tried: a second one while the first is dealt with
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=40)
    said, *ignored = said.split("Exception ignored")  # as in functions of ``atexit`` of other modules
    ours = [line for text in ignored for line in text.splitlines() if PACKAGE in line]
    assert all("signal_guard.py" in line for line in ours), ignored
    assert said.count("Traceback") <= 1
    assert os.sep + os.path.join("driver", "driver.py") not in said
