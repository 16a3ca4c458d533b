"""Copies of large buffers: every byte arrives, whatever the pieces and threads are."""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import Any

import pytest

from ray import copying
from ray.copying import Copier, Pace, Way


@pytest.fixture
def threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads may copy pieces that are quick to make."""
    monkeypatch.setattr(copying, "_THREADS_FROM_BYTES", 300_000)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)


@pytest.mark.parametrize("nbytes", [0, 1, 64, 262_143, 262_144, 1_000_003])
def test_pieces_are_copied_one_behind_the_other(nbytes: int, threads_at_once: None) -> None:
    copier = Copier(3)
    data = os.urandom(nbytes)
    pieces = [b"head", data, memoryview(data)[::1], memoryview(bytearray(data)), b"tail"]
    for _ in range(12):  # in every way
        target = bytearray(b"?" * (3 * nbytes + 20))
        copier.copy(memoryview(target), pieces)
        assert target == b"head" + data * 3 + b"tail" + b"?" * 12


def test_pieces_that_are_too_long_are_not_copied_beyond_the_end() -> None:
    target = bytearray(1_000_000)
    with pytest.raises(ValueError, match="do not go"):
        Copier(2).copy(memoryview(target)[:500_000], [b"x" * 300_000, b"y" * 300_000])
    assert target[500_000:] == bytes(500_000)


def test_a_copy_is_made_where_no_thread_can_be_started(threads_at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    copier, data = Copier(3), os.urandom(1_000_003)
    for _ in range(12):
        target = bytearray(len(data))
        copier.copy(memoryview(target), [data])
        assert target == data


def test_another_thread_that_computes_does_not_have_its_turn_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [0.0], list[int]()

    def move(target: int, source: int, nbytes: int) -> None:
        calls.append(nbytes)
        now[0] += 0.005 if len(calls) == 4 else 0.0001

    monkeypatch.setattr("ray.copying.ctypes.memmove", move)
    monkeypatch.setattr("ray.copying.perf_counter", lambda: now[0])
    copying._move_in_steps(0, 0, 1_000_003, 100_000)
    assert calls == [100_000] * 4 + [600_003]


IN_STEPS, WHOLE, BY_TWO = (Way(1, copying._STEP_BYTES), Way(1, copying._WHOLE), Way(2, copying._WHOLE))


class Machine:
    """Copies that take what ``costs`` says, times what else the machine does."""

    def __init__(self) -> None:
        self.pace = Pace(2)
        self.costs = {IN_STEPS: 1.0, WHOLE: 1.2, BY_TWO: 1.3}
        self.load = 1.0

    def copy(self, times: int, load_grows: float = 0.0) -> Counter[Way]:
        chosen = Counter[Way]()
        for _ in range(times):
            way = self.pace.choose()
            self.load += load_grows
            self.pace.took(way, self.costs[way] * self.load)
            chosen[way] += 1
        return chosen


@pytest.mark.parametrize("best", [IN_STEPS, WHOLE, BY_TWO])
def test_copies_are_made_in_the_fastest_way(best: Way) -> None:
    machine = Machine()
    machine.costs[best] = 0.8
    machine.copy(24)
    assert machine.copy(160)[best] == 150
    machine.costs[best] = 9.0  # something else is better from now on
    machine.copy(100)
    assert machine.copy(160)[best] == 5


def test_what_else_the_machine_does_decides_nothing() -> None:
    machine = Machine()
    machine.copy(24)
    for grows in (0.01, -0.01):  # slower and slower, beyond what the other ways took before; and back
        assert machine.copy(160, grows)[IN_STEPS] == 150
    machine.load = 3.0  # for one copy
    machine.copy(1)
    machine.load = 1.0
    assert machine.copy(159)[IN_STEPS] >= 148


def test_one_thread_is_all_there_is_where_no_more_are_wanted() -> None:
    pace = Pace(1)
    assert {pace.choose().threads for _ in range(100)} == {1}
