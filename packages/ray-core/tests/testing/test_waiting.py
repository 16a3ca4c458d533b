"""Waiting for what others make true."""

from __future__ import annotations

import threading
import time
from unittest import mock

import pytest

from ray.testing import eventually


def test_the_first_true_value_is_returned() -> None:
    values = iter([None, 0, "", [7], [8]])
    assert eventually(lambda: next(values)) == [7]
    assert next(values) == [8]


def test_what_is_true_already_takes_no_time() -> None:
    with mock.patch("ray.testing.waiting.sleep") as sleep:
        assert eventually(lambda: True, 0.0)
    sleep.assert_not_called()


def test_another_thread_makes_it_true() -> None:
    event = threading.Event()
    timer = threading.Timer(0.05, event.set)
    timer.start()
    eventually(event.is_set)
    timer.join()


def test_the_error_says_what_is_wrong_and_what_was_there_instead() -> None:
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"^the list is empty after 0.05 s; the last value was \[\]$"):
        eventually(list, within_s=0.05, why="the list is empty")
    assert time.monotonic() - began >= 0.05


def test_what_is_wrong_may_be_found_out_then() -> None:
    left = [1]
    with pytest.raises(AssertionError, match=r"^\[1, 2\] are left after 0 s; the last value was None$"):
        eventually(lambda: left.append(2), 0.0, lambda: f"{left[:2]} are left")


def test_what_a_condition_raises_ends_the_wait() -> None:
    with pytest.raises(ZeroDivisionError):
        eventually(lambda: 1 / 0)


def test_it_is_asked_once_more_after_the_time() -> None:
    """A machine that is busy for all of the time fails nothing that has come true meanwhile."""
    calls = []

    def slow() -> bool:
        calls.append(len(calls))
        time.sleep(0.05)
        return len(calls) == 2

    assert eventually(slow, 0.01)


def test_the_pauses_grow_and_stay_short() -> None:
    now, pauses = [0.0], []

    def sleep(seconds: float) -> None:
        assert seconds <= max(0.0002, now[0] / 10)
        pauses.append(seconds)
        now[0] += seconds

    with mock.patch.multiple("ray.testing.waiting", monotonic=lambda: now[0], sleep=sleep):
        eventually(lambda: now[0] > 5)
    assert pauses[0] < 0.001
    assert pauses == sorted(pauses)
    assert pauses[-1] == 0.01


def test_a_long_value_is_cut() -> None:
    class Long:
        def __bool__(self) -> bool:
            return False

        def __repr__(self) -> str:
            return "x" * 10_000

    with pytest.raises(AssertionError) as caught:
        eventually(Long, 0.0)
    assert len(str(caught.value)) < 1000
