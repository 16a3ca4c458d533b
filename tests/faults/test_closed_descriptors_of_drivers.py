"""A driver that has closed the descriptors of its session, as code does that makes a daemon, is told so."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys, time
import ray

ray.init(num_cpus=1)
one = ray.remote(lambda: 1)
ray.get(one.remote())
os.closerange(3, 1024)
time.sleep(float(sys.argv[1]))
try:
    ray.get(one.remote(), timeout=20)
except ray.exceptions.RayError as error:
    print(error)
"""


@pytest.mark.parametrize("pause_s", [0, 1])
def test_what_it_is_told(pause_s):
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(pause_s)], capture_output=True, text=True, timeout=60)
    assert "the program has closed the descriptors of its session" in done.stdout, done.stderr
    assert "internal error" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
