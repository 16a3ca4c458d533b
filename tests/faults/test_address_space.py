"""A process that may not have much address space, as batch systems see to: the store is made to fit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, resource, sys
limit, store, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
import ray
try:
    ray.init(num_cpus=1, store=store, object_store_memory=size or None)
except ray.exceptions.RayError as error:
    print(error)
else:
    large = ray.put(os.urandom(5_000_000))
    assert ray.get(ray.remote(len).remote(large), timeout=30) == 5_000_000
    assert len(ray.get(ray.remote(os.urandom).remote(2_000_000), timeout=30)) == 2_000_000
    ray.shutdown()
    print("fine")
"""

GIB = 1 << 30

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps this limit")


def run(limit: int, store: str, size: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(limit), store, str(size)],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("store", ["plasma", "shm", "heap"])
def test_the_default_store_fits(store):
    assert run(4 * GIB, store) == "fine"


def test_a_store_that_does_not_fit_is_told_in_a_line():
    line = run(4 * GIB, "plasma", 6 * GIB)
    assert "\n" not in line
    assert "object_store_memory" in line
    assert "ulimit -v" in line
