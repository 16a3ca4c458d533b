"""Commands that are interrupted or stay in the foreground, and what stands still when it is stopped."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
from tests.commands import LIMIT_S
from tests.quick import first_of
from tests.victims import alive

from ray.testing import eventually


@pytest.mark.slow
def test_an_interrupted_start_leaves_nothing(machine):
    for after_s in (0.3, 0.8, 1.3):
        start = machine.start("start", "--head", "--num-cpus", "1", "--block")
        time.sleep(after_s)
        start.send_signal(signal.SIGINT)
        start.communicate(timeout=LIMIT_S)
        assert start.returncode in (130, 1, -signal.SIGINT)
        eventually(lambda: machine.names() == [], LIMIT_S, "the key file is gone")
        eventually(lambda: machine.pids() == [], LIMIT_S, "the processes are gone")


@pytest.mark.parametrize("how", first_of(["SIGTERM", "SIGINT", "SIGKILL"]))
def test_in_the_foreground(machine, how):
    code = {"SIGTERM": 0, "SIGINT": 130, "SIGKILL": -9}[how]
    start = machine.start("start", "--head", "--num-cpus", "1", "--block")
    assert start.stdout.readline().startswith("Cluster 'default' runs at ")
    machine.done("wait", "--timeout", "30")
    start.send_signal(getattr(signal, how))
    start.communicate(timeout=LIMIT_S)
    assert start.returncode == code
    eventually(lambda: machine.names() == [], LIMIT_S, "the key file is gone")
    eventually(lambda: machine.pids() == [], LIMIT_S, "the processes are gone")


@pytest.mark.slow
def test_in_the_foreground_until_it_is_stopped(machine):
    start = machine.start("start", "--head", "--num-cpus", "1", "--block")
    assert start.stdout.readline()
    join = machine.start("start", "--address", "default", "--num-cpus", "1", "--node-name", "second", "--block")
    assert join.stdout.readline() == "Node 'second' of cluster 'default' runs, at 127.0.0.1.\n"
    assert machine.done("stop", "--node", "second") == "Stopped 1 node of cluster 'default'.\n"
    join.communicate(timeout=LIMIT_S)
    assert join.returncode == 0
    assert [node["is_head"] for node in machine.status()["nodes"] if node["state"] == "alive"] == [True]
    assert "no node 'second'" in machine.refused(3, "stop", "--node", "second")
    machine.done("stop")
    start.communicate(timeout=LIMIT_S)
    assert start.returncode == 0


@pytest.mark.slow
def test_in_the_foreground_until_it_is_killed(machine):
    machine.done("start", "--head", "--num-cpus", "1")
    join = machine.start("start", "--address", "default", "--num-cpus", "1", "--node-name", "second", "--block")
    assert join.stdout.readline() == "Node 'second' of cluster 'default' runs, at 127.0.0.1.\n"
    (pid,) = [node["pid"] for node in machine.status()["nodes"] if node["node_name"] == "second"]
    os.kill(pid, signal.SIGKILL)
    _, said = join.communicate(timeout=LIMIT_S)
    assert join.returncode == 1
    assert said.endswith("ray: the node manager has ended: signal 9 (SIGKILL)\n")


@pytest.mark.slow
def test_what_stands_still_is_killed(machine):
    machine.done("start", "--head", "--num-cpus", "1")
    stopped = machine.pids()
    assert len(stopped) == 2
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    finished = machine.ray("stop")
    assert finished.returncode == 0
    assert re.fullmatch(r"What did not end within 5 s was killed: \d+(, \d+)?\.\n", finished.stderr)
    assert not any(map(alive, stopped))
    assert machine.names() == []


@pytest.mark.parametrize("wait_s", first_of([0.3, 0.1, 0.5, 0.8]))
@pytest.mark.parametrize("block", [(), ("--block",)], ids=["leaves", "stays"])
def test_sigterm_while_a_node_starts(machine, block, wait_s):
    """Nothing of it is left, at whatever moment; and no file with the password."""
    machine.done("start", "--head", "--num-cpus", "1")
    before = set(machine.pids())
    join = machine.start("start", "--address", "auto", "--num-cpus", "1", *block)
    time.sleep(wait_s)
    join.send_signal(signal.SIGTERM)
    said, _ = join.communicate(timeout=LIMIT_S)
    assert join.returncode in (0, 130, -signal.SIGTERM)  # the last: Python itself was still starting
    left = set(machine.pids()) - before
    if block or "runs, at" not in said:
        assert not left
    elif join.returncode == 0:  # it was faster
        assert len(left) == 1
    assert list(machine.runtime.rglob("access.json")) == list(machine.runtime.rglob("redis/access.json"))
