"""Programs that join a cluster while a node of it, or its head, ends and begins."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from tests.commands import Machine
from tests.victims import alive

from ray.api.address import join_node_of
from ray.exceptions import RayConnectionError
from ray.runtime.cluster import attaching
from ray.runtime.cluster.wanted import WantedCluster
from ray.runtime.driver.leaving import NodeLeavesError
from ray.testing import eventually

LIMIT_S = 50
KILLED_AND_JOINED = """
@ray.remote
def double(number):
    return 2 * number

for _ in range(3):
    with ray.init(address={0!r}):
        [pid] = [node["Pid"] for node in ray.nodes() if node["Alive"]]
    os.kill(pid, 9)
    with ray.init(address={0!r}):
        print(ray.get(double.remote(4)))
"""
JOIN = """
began = time.monotonic()
try:
    ray.init(address={0!r}, connect_timeout_s={1})
except ray.exceptions.RayError as error:
    print(type(error).__name__, error)
print(time.monotonic() - began)
"""


def keeper_of(machine: Machine) -> int:
    folder = next(machine.runtime.glob("ray-*/*/keeper.json")).parent
    return int((folder / "node.pid").read_text().split()[0])


def test_the_node_manager_of_the_head_has_just_been_killed(machine: Machine) -> None:
    """The program waits for the next one."""
    machine.done("start", "--head", "--num-cpus", "1")
    assert machine.run(KILLED_AND_JOINED.format("default")) == ["8"] * 3


def test_a_node_that_is_ending_is_not_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another look finds another one; who hears the end of it is told what has happened last."""
    found, tried = iter(["first", "second"]), []
    monkeypatch.setattr(attaching, "node_of", lambda wanted, timeout_s: next(found, "third"))

    def join(session_dir: object) -> Any:
        tried.append(session_dir)
        if session_dir != "second":
            raise NodeLeavesError(f"{session_dir} ends")
        return "joined"

    wanted = WantedCluster("address='x'", name="x")
    assert join_node_of(wanted, 5.0, join) == "joined"
    assert tried == ["first", "second"]
    with pytest.raises(RayConnectionError, match=r"^No node of the cluster x \(.* within 0.1 s: third ends\."):
        join_node_of(wanted, 0.1, join)


def test_there_is_no_node_manager_for_longer(machine: Machine) -> None:
    """It hears what is so, when its time is over; a keeper that stands still starts none."""
    machine.done("start", "--head", "--num-cpus", "1")
    [node] = machine.status()["nodes"]
    keeper = keeper_of(machine)
    os.kill(keeper, signal.SIGSTOP)
    try:
        os.kill(node["pid"], signal.SIGKILL)
        time.sleep(0.05)
        said, took = machine.run(JOIN.format("default", 1))
    finally:
        os.kill(keeper, signal.SIGCONT)
    assert said.startswith("RayConnectionError The node manager of the head of cluster 'default' at "), said
    assert "is being started, so try again, or give a longer connect_timeout_s." in said
    assert 1 <= float(took) < 10
    eventually(lambda: not alive(node["pid"]), LIMIT_S, "it has ended")
    machine.done("wait", "--timeout", "30")
