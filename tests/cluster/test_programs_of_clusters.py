"""A program that has started a cluster for its tests takes the nodes along."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.commands import LIMIT_S
from tests.redis_servers import server_binary

from ray.testing import leaks

START = """
import os
import ray
from ray.testing import Cluster

cluster = Cluster(True)
ray.init(address=cluster.address, log_to_driver=False)
print("started", flush=True)
"""
FORK = """
pid = os.fork()
if not pid:
    raise SystemExit(0)
os.waitpid(pid, 0)
assert len(ray.nodes()) == 1
print("it goes on", flush=True)
"""


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [("raise ValueError('an error')", 1, "started\n"), (FORK, 0, "started\nit goes on\n")],
    ids=["with an error", "after a fork that has ended"],
)
def test_the_nodes_end_with_the_program(end: str, status: int, said: str) -> None:
    server_binary()
    before = leaks.snapshot()
    done = subprocess.run(
        [sys.executable, "-c", START + end], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert (done.returncode, done.stdout) == (status, said), done.stderr
    leaks.assert_clean(before)
