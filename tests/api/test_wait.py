"""``ray.wait``: its results, and its checks in their order."""

import datetime
import logging
import time

import pytest
from tests import sessions
from tests.stopwatch import Stopwatch

import ray
from ray.exceptions import RayConnectionError

kept_session = sessions.kept()
mode = sessions.one_after_the_other()


@ray.remote
def echo(x):
    return x


@ray.remote
def sleep(seconds):
    time.sleep(seconds)
    return seconds


@ray.remote
def fail():
    raise ValueError("boom")


def test_results_are_in_input_order_and_complete(ray_session):
    refs = [echo.remote(i) for i in range(5)]
    ready, rest = ray.wait(refs, num_returns=5)
    assert (ready, rest) == (refs, [])
    ready, rest = ray.wait(refs, num_returns=2)
    assert len(ready) == 2
    assert [ref for ref in refs if ref in ready] == ready
    assert [ref for ref in refs if ref not in ready] == rest


def test_one_by_default(ray_session):
    refs = [ray.put(i) for i in range(3)]
    ready, rest = ray.wait(refs)
    assert len(ready) == 1
    assert sorted(ref.hex() for ref in ready + rest) == sorted(ref.hex() for ref in refs)


def test_empty(ray_session):
    assert ray.wait([]) == ([], [])
    assert ray.wait([], num_returns=7) == ([], [])


def test_failed_tasks_are_ready(ray_session):
    ref = fail.remote()
    assert ray.wait([ref], timeout=30_000) == ([ref], [])


def test_timeouts(ray_session, mode):
    ready = ray.put(1)
    for timeout in (0, 100, 150.0, datetime.timedelta(seconds=1), None):
        assert ray.wait([ready], timeout=timeout) == ([ready], [])
    if mode == "local_mode":
        return
    slow = sleep.remote(3)
    for timeout in (0, 100, datetime.timedelta(milliseconds=100)):
        started = Stopwatch()
        assert ray.wait([slow], timeout=timeout) == ([], [slow])
        assert started.undisturbed_s() < 0.9
    assert ray.wait([ready, slow], num_returns=2, timeout=100) == ([ready], [slow])
    assert ray.wait([slow]) == ([slow], [])


def test_suspicious_timeouts_hint_at_the_unit_once(ray_session, caplog, monkeypatch):
    monkeypatch.setattr("ray.units._hinted", False)
    with caplog.at_level(logging.WARNING, "ray"):
        for _ in range(2):
            ray.wait([ray.put(1)], timeout=2.5)
    assert caplog.text.count("milliseconds") == 1


IN_ORDER = [
    (lambda ref: (ref,), TypeError, "wait() expected a list of object refs"),
    (lambda ref: ((ref,),), TypeError, "wait() expected a list of object refs"),
    (lambda ref: ({ref},), TypeError, "wait() expected a list of object refs"),
    (lambda ref: (3,), TypeError, "wait() expected a list of object refs, not 3"),
    (lambda ref: ([3], 1, -1), ValueError, "The 'timeout' argument must be nonnegative. Received -1"),
    (lambda ref: ([3], 1, "1"), TypeError, "timeout must be"),
    (lambda ref: ([ref], 1, float("nan")), ValueError, "nonnegative"),
    (lambda ref: ([ref, 3],), TypeError, "wait() expected a list of object refs, but element 1 is 3"),
    (lambda ref: ([ref, ref], 0), ValueError, "Wait requires a list of unique object refs"),
    (lambda ref: ([ref], 0), ValueError, "Invalid number of objects to return 0"),
    (lambda ref: ([ref], -1), ValueError, "Invalid number of objects to return -1"),
    (lambda ref: ([ref], 2), ValueError, "num_returns cannot be greater than the number of objects"),
    (lambda ref: ([ref], 1.0), TypeError, "num_returns must be a whole number, not 1.0"),
    (lambda ref: ([ref], True), TypeError, "num_returns must be a whole number"),
]


def test_checks_in_order(ray_session, subtests):
    for arguments, error, text in IN_ORDER:
        with subtests.test(text):
            with pytest.raises(error) as caught:
                ray.wait(*arguments(ray.put(1)))
            assert text in str(caught.value)


def test_types_are_checked_before_the_connection():
    with pytest.raises(TypeError):
        ray.wait(3)
    with pytest.raises(TypeError):
        ray.wait([3])
    with pytest.raises(ValueError, match="nonnegative"):
        ray.wait([], timeout=-1)
    with pytest.raises(RayConnectionError):
        ray.wait([], num_returns=0)


def test_wait_inside_a_task(ray_session):
    @ray.remote
    def waits(refs):
        ready, rest = ray.wait(refs, num_returns=2)
        return len(ready), len(rest)

    assert ray.get(waits.remote([echo.remote(i) for i in range(3)])) == (2, 1)
