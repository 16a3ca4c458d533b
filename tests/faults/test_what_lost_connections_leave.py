"""What is left where the connection to an actor is lost: no object, no hold on another's, and the program's files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.faults.test_lost_connections_of_actors import LIMIT_S, PATIENCE_S, Serial, appears, break_off, told

import ray


class Large(Serial):
    def large(self, begun: Path, gate: Path, refs: list[Any]) -> tuple[bytes, Any]:
        self.waits(begun, gate)
        return bytes(1_000_000), refs


def make(**options: Any) -> tuple[Any, int]:
    actor = ray.remote(num_cpus=0)(Large).options(**options).remote()
    return actor, ray.get(actor.pid.remote(), timeout=PATIENCE_S)


def test_a_file_that_has_got_the_number_of_a_closed_descriptor(start: Callable[..., Any], tmp_path: Path) -> None:
    start(num_cpus=1, transport="unix")
    actor, pid = make()
    [number] = break_off(pid, "close")
    opened = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    time.sleep(1.0)  # nothing is sent until it is noticed
    told(actor.do.remote(1))
    assert ray.get(actor.do.remote(2), timeout=LIMIT_S) == 2
    assert os.fstat(number).st_ino == (tmp_path / "file").stat().st_ino
    assert os.fstat(number).st_size == 0
    os.close(number)


@pytest.mark.parametrize("retries", [0, -1])
def test_results_that_nobody_takes(start: Callable[..., Any], retries: int, tmp_path: Path) -> None:
    start(num_cpus=1)
    actor, pid = make(max_restarts=retries, max_task_retries=retries)
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    result = actor.large.options(num_returns=2).remote(begun, gate, [ray.put(1), ray.put(bytes(200_000))])
    appears(begun)
    break_off(pid, "shutdown")
    gate.touch()
    values = [told(ref) for ref in result]
    if retries:
        assert values[0] == bytes(1_000_000)
        assert ray.get(values[1][0], timeout=LIMIT_S) == 1
    assert ray.get(actor.do.remote(1), timeout=LIMIT_S) == 1
