"""The clocks of ``ray.clock`` are real ones, and not those that a program's tests find and replace."""

import subprocess
import sys
import threading
import time

import pytest

from ray import clock

NAMES = ("monotonic", "perf_counter", "perf_counter_ns", "thread_time", "sleep")


@pytest.mark.parametrize("name", NAMES)
def test_functions_are_others_than_those_of_time(name):
    assert getattr(clock, name) is not getattr(time, name)


def test_they_say_the_same():
    assert sys.modules["time"] is time
    for ours, theirs in ((clock.monotonic, time.monotonic), (clock.perf_counter, time.perf_counter)):
        before = theirs()
        assert before <= ours() <= theirs()
    assert abs(clock.wall_time() - time.time()) < 5


def test_processor_time_of_a_thread():
    before = clock.cpu_time_of(threading.get_ident())
    while clock.cpu_time_of(threading.get_ident()) == before:
        pass
    assert clock.cpu_time_of(threading.get_ident()) - before > 0


def test_loops_go_by_them(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 7.0)
    loop = clock.new_event_loop()
    try:
        before = clock.monotonic()
        assert before <= loop.time() <= clock.monotonic()
    finally:
        loop.close()


def test_they_are_real_where_time_was_frozen_before():
    program = """
import sys, time
real = time.monotonic
for name in ("monotonic", "perf_counter", "time", "clock_gettime", "sleep"):
    setattr(time, name, None)
from ray import clock
assert real() <= clock.monotonic() <= real()
clock.sleep(0.001)
assert clock.wall_time() > 1.6e9
"""
    subprocess.run([sys.executable, "-c", program], timeout=50, check=True)
