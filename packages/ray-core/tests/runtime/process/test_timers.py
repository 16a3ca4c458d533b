"""Timers of a loop."""

from __future__ import annotations

import itertools

import pytest

from ray.runtime.process import timers as module
from ray.runtime.process.timers import SLOT_S, Timers


class Clock:
    now = 1000.3

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


def test_what_is_due_runs_in_order(clock: Clock) -> None:
    timers, ran = Timers(), []
    for delay_s in (3.0, 1.0, 2.0):
        timers.after(delay_s, lambda delay_s=delay_s: ran.append(delay_s))  # type: ignore[misc]
    assert timers.timeout_s(None) == pytest.approx(1.0)
    assert timers.timeout_s(0.5) == 0.5
    clock.now += 2.0
    timers.run_due()
    assert ran == [1.0, 2.0]


def test_one_that_was_cancelled_does_not_run(clock: Clock) -> None:
    timers, ran = Timers(), []
    timers.after(1.0, lambda: ran.append(1)).cancel()
    clock.now += 2.0
    timers.run_due()
    assert ran == []


def test_what_may_wait_a_little_runs_with_others(clock: Clock) -> None:
    """A loop that rests wakes once for all of it, and again after the same time."""
    timers, ran = Timers(), []

    def beat() -> None:
        ran.append(clock.now)
        timers.about(SLOT_S, beat)

    def look() -> None:
        timers.about(2 * SLOT_S, look)

    clock.now += 0.1
    timers.about(SLOT_S, beat)
    clock.now += 0.07
    timers.about(2 * SLOT_S, look)
    wakes = 0
    while len(ran) < 20:
        clock.now += timers.timeout_s(None) or 0.0
        clock.now += 0.003  # the loop is a little late each time
        timers.run_due()
        wakes += 1
    assert wakes == 20
    assert [later - before for before, later in itertools.pairwise(ran)] == pytest.approx([SLOT_S] * 19, abs=0.01)


def test_a_loop_that_was_held_up_does_not_make_up_for_it(clock: Clock) -> None:
    timers, ran = Timers(), []

    def beat() -> None:
        ran.append(clock.now)
        timers.about(SLOT_S, beat)

    timers.about(SLOT_S, beat)
    clock.now += 10.2
    timers.run_due()
    timers.run_due()
    assert len(ran) == 1
    assert 0.5 * SLOT_S <= (timers.timeout_s(None) or 0.0) <= 1.5 * SLOT_S
