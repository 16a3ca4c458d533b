"""Copies of large buffers: every byte arrives, whatever the pieces and threads are."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from ray import copying
from ray.copying import Copier, Pace


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
    for _ in range(8):  # in either way
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
    for _ in range(8):
        target = bytearray(len(data))
        copier.copy(memoryview(target), [data])
        assert target == data


def test_the_number_of_threads_follows_what_is_faster() -> None:
    pace = Pace(2)
    assert {pace.choose(), pace.choose()} <= {1, 2}
    costs = {1: 1.0, 2: 3.0}

    def rounds(count: int) -> list[int]:
        chosen = []
        for _ in range(count):
            chosen.append(pace.choose())
            pace.took(chosen[-1], costs[chosen[-1]])
        return chosen

    rounds(10)
    assert rounds(64).count(2) == 2
    costs[1] = 9.0  # memory is shared with others now
    rounds(10)
    assert rounds(64).count(1) == 2
    assert {Pace(1).choose() for _ in range(100)} == {1}
