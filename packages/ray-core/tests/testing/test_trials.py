"""Random lives of simulated clusters: the machines bear them, and what is broken in a machine is found."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from ray.protocol.delivery import Delivery
from ray.protocol.recalls import Recalls
from ray.protocol.run_slot import RunSlot
from ray.protocol.task_records import Lease
from ray.protocol.tasks import TaskTable
from ray.testing import trials


@pytest.mark.parametrize("first", range(0, 200, 25))
def test_lives(first: int) -> None:
    assert trials.failures(range(first, first + 25)) == []


def test_a_seed_is_a_life() -> None:
    assert [trials.live(7).digest for _ in range(2)] == [trials.live(7).digest] * 2


def test_the_command_line_lives_one_again() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ray.testing.trials", "--seed", "3"],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.startswith("seed 3: all is well after ")


def starts_one_less(self: Lease[Any], running: bytes, *, died: bool = False) -> int:
    return max(0, _started(self, running, died=died) - 1)


def forgets_what_it_takes_back(self: TaskTable[Any], lease: Lease[Any], ids: Any) -> None:
    for id in ids:
        lease.inflight.pop(id, None)


def keeps_what_is_revoked(self: Recalls[Any], lease: bytes, recall: bytes, running: bytes | None, now: float) -> None:
    _in_force(self, lease, recall, None, now)


def starts_what_is_revoked(self: RunSlot, task: bytes) -> bool:
    return True


def keeps_idle_workers(self: TaskTable[Any], now: float) -> None: ...


def retries_without_an_attempt(self: TaskTable[Any], lease: Lease[Any], task: Any, now: float) -> None:
    _retry(self, lease, task, now)
    task.attempt -= 1


def asks_for_nobody(self: TaskTable[Any], cls: Any, now: float) -> None: ...


def forgets_what_could_not_be_sent(self: TaskTable[Any], lease: Lease[Any], now: float) -> None:
    self.pump(lease.cls, now)


def takes_twice(self: Delivery[Any], header: Any, message: Any) -> list[Any]:
    return [message] if header.number else []


_started, _in_force, _retry = Lease.started, Recalls.in_force, TaskTable.retry


@pytest.mark.parametrize(
    ("of", "name", "broken"),
    [
        (Lease, "started", starts_one_less),
        (TaskTable, "take_back", forgets_what_it_takes_back),
        (TaskTable, "_release_idle", keeps_idle_workers),
        (TaskTable, "retry", retries_without_an_attempt),
        (TaskTable, "_update_demand", asks_for_nobody),
        (TaskTable, "_was_not_sent", forgets_what_could_not_be_sent),
        (Recalls, "in_force", keeps_what_is_revoked),
        (RunSlot, "may_start", starts_what_is_revoked),
        (Delivery, "receive", takes_twice),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_broken_is_found(monkeypatch: pytest.MonkeyPatch, of: type, name: str, broken: Any) -> None:
    monkeypatch.setattr(of, name, broken)
    monkeypatch.setattr(trials, "MAX_EVENTS", 20_000)
    for seed in range(400):
        if trials.failures([seed]):
            return
    pytest.fail("400 lives without a failure")
