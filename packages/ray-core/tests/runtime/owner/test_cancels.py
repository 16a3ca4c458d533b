"""Cancelling tasks that were pushed to a worker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ray.messages import node, wire
from ray.runtime.owner import cancels as module
from ray.runtime.owner.cancels import Cancels
from ray.runtime.process import timers
from ray.runtime.process.timers import Timers


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(timers, "monotonic", lambda: clock.now)
    return clock


def test_force_goes_on_until_the_task_has_ended(clock: SimpleNamespace) -> None:
    """A worker may begin the task only after the node manager was asked to end it, and the task ignore the rest."""
    told: list[Any] = []
    sent: list[Any] = []
    loop = Timers()
    cancels = Cancels({}, loop, told.append, lambda record, doubt="": None, b"process1")
    record: Any = SimpleNamespace(id=b"task", name="f", done=False, warned=False)
    link: Any = SimpleNamespace(
        lease=SimpleNamespace(id=b"lease"), inflight={b"task": record}, peer=SimpleNamespace(send=sent.append)
    )
    cancels.cancel_task(record, link, force=True, recursive=True, again=False)
    assert sent == [wire.Cancel(b"task", True, False)]
    assert told == []
    for _ in range(1_000):
        clock.now += 0.01
        loop.run_due()
    assert set(told) == {node.KillLease(b"lease", b"task", "its task was cancelled by force")}
    assert 10 < len(told) < 20  # at first after 0.01 s, later once a second
    link.inflight.clear()
    told.clear()
    clock.now += 2 * module.FORCE_EVERY_S
    loop.run_due()
    assert told == []
    assert loop.timeout_s(None) is None
