"""Finalisers and signal handlers that wait for ray inside calls of ray."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from tests.quick import crossed, first_of

import ray
import ray_transport_zmq
from ray.testing.interruption import interrupted

TRANSPORTS = ["unix", "zmq", "routed"]
_HERE = tuple(os.path.dirname(package.__file__) + os.sep for package in (ray, ray_transport_zmq))


@ray.remote
def double(number):
    return 2 * number


@ray.remote
class Closer:
    def __init__(self):
        self.closed = 0

    def close(self, number):
        self.closed += number
        return self.closed

    def length(self, refs):
        return len(ray.get(refs[0], timeout=30))


@pytest.fixture(scope="module", params=first_of(TRANSPORTS))
def context(request):
    with ray.init(num_cpus=2, transport=request.param, log_to_driver=False) as context:
        yield context


@pytest.fixture(autouse=True)
def nothing_left():
    """Tests here share a session, or are programs of their own."""


@pytest.fixture
def session(context):
    return context


def run(program, *arguments):
    """Run a program of its own; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_finalisers_that_the_collector_runs_may_get(transport):
    program = """
    import gc, sys, time
    import ray

    ray.init(num_cpus=2, transport=sys.argv[1], log_to_driver=False)

    @ray.remote
    def same(value):
        return value

    @ray.remote
    class Closer:
        def close(self, number):
            return number

    closer = Closer.remote()
    closed = 0

    class Handle:
        def __init__(self):
            self.me = self

        def __del__(self):
            global closed
            closed += ray.get(closer.close.remote(1), timeout=30)

    ray.get(closer.close.remote(1))
    made = 0
    end = time.monotonic() + 2
    while time.monotonic() < end or closed < 20:
        Handle()
        made += 1
        assert ray.get([same.remote(number) for number in range(20)]) == list(range(20))
    gc.collect()
    assert closed == made, (closed, made)
    ray.shutdown()
    print("fine")
    """
    assert run(program, transport) == "fine\n"


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_signal_handlers_may_call_ray_in_every_call(transport):
    program = """
    import signal, sys, time
    import ray

    ray.init(num_cpus=2, transport=sys.argv[1], log_to_driver=False)

    @ray.remote
    def same(value):
        return value

    handled = 0
    on = True

    def handle(*_):
        global handled
        ref = same.remote(42)
        assert ray.wait([ref], timeout=30_000) == ([ref], [])
        assert ray.get([ref, ray.put("x")], timeout=30) == [42, "x"]
        handled += 1
        if on:
            signal.setitimer(signal.ITIMER_REAL, 0.003)

    ray.get([same.remote(number) for number in range(20)])
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.003)
    end = time.monotonic() + 2
    while time.monotonic() < end or handled < 50:
        assert ray.get([same.remote(number) for number in range(20)]) == list(range(20))
        refs = [same.remote(ray.put(number)) for number in range(5)]
        assert len(ray.wait(refs, num_returns=5)[0]) == 5
    on = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    ray.shutdown()
    print("fine")
    """
    assert run(program, transport) == "fine\n"


CALLS = {
    "task": lambda actor: ray.get(double.remote(4)) == 8,
    "tasks": lambda actor: ray.get([double.remote(number) for number in range(3)]) == [0, 2, 4],
    "argument": lambda actor: ray.get(double.remote(double.remote(ray.put(1)))) == 4,
    "call": lambda actor: ray.get([actor.close.remote(0) for _ in range(3)]) == [0, 0, 0],
    "fetch": lambda actor: ray.get(actor.length.remote([ray.put("x" * 5_000)])) == 5_000,
    "wait": lambda actor: len(ray.wait([double.remote(number) for number in range(3)], num_returns=3)[0]) == 3,
}
INSIDE = {
    "task": lambda actor: ray.get(double.remote(21), timeout=30) == 42,
    "call": lambda actor: ray.get(actor.close.remote(0), timeout=30) == 0,
}


@pytest.mark.parametrize(("call", "inside"), crossed(list(CALLS), list(INSIDE)))
def test_a_wait_at_any_point_of_a_call_has_its_value(session, call, inside):
    actor = Closer.remote()
    assert CALLS[call](actor)
    assert INSIDE[inside](actor)
    _, points = interrupted(lambda: CALLS[call](actor), 0, int, lambda path: path.startswith(_HERE))
    assert points > 20
    reached = 0
    # A call that is interrupted passes fewer points, or more: the one inside does what it waits for, or leaves it more.
    for point in range(1, points + 1, 7):
        found = []
        result, _ = interrupted(
            lambda: CALLS[call](actor),
            point,
            lambda found=found: found.append(INSIDE[inside](actor)),
            lambda path: path.startswith(_HERE),
        )
        assert result, f"the call that was interrupted at point {point}"
        assert all(found), f"the call that interrupts it at point {point}"
        reached += len(found)
    assert reached >= 3


def test_an_answer_that_the_caller_inside_waits_for_goes_out(session):
    """The actor waits for a value of ours; the answer is interrupted by a wait for the next call of that actor."""
    actor = Closer.remote()
    assert CALLS["fetch"](actor)
    points, end = 0, time.monotonic() + 30
    while points <= 10 and time.monotonic() < end:  # else the other thread has polled, as it may on a busy machine
        _, points = interrupted(lambda: CALLS["fetch"](actor), 0, int, _answers)
    assert points > 10
    for point in range(1, points + 1):
        found: list[bool] = []
        result, _ = interrupted(
            lambda: CALLS["fetch"](actor), point, lambda found=found: found.append(INSIDE["call"](actor)), _answers
        )
        assert result, f"the answer that was interrupted at point {point}"
        assert found in ([True], []), f"the call that interrupts it at point {point}"


def _answers(path):
    return path.endswith((os.path.join("owner", "borrowing.py"), os.path.join("owner", "inbox.py")))


def test_a_task_may_be_interrupted_too(session):
    @ray.remote
    def interrupted_task():
        handled = []

        def handle(*_):
            handled.append(ray.get(double.remote(21), timeout=30))
            signal.setitimer(signal.ITIMER_REAL, 0.01)  # not sooner: handlers would pile up on a busy machine

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        end = time.monotonic() + 30
        while len(handled) < 20 and time.monotonic() < end:
            assert ray.get([double.remote(number) for number in range(5)]) == [0, 2, 4, 6, 8]
        signal.setitimer(signal.ITIMER_REAL, 0)
        return handled

    assert set(ray.get(interrupted_task.remote())) == {42}


def test_a_timeout_inside_is_a_true_one(session):
    @ray.remote
    def long():
        time.sleep(30)

    slow = long.remote()
    seen = []

    def handle(*_):
        try:
            ray.get(slow, timeout=0.2)
        except ray.exceptions.GetTimeoutError:
            seen.append("timeout")

    previous = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(ray.exceptions.GetTimeoutError):
            ray.get(slow, timeout=1)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert seen == ["timeout"]
    ray.cancel(slow, force=True)


def test_other_threads_go_on_meanwhile(session):
    """The call that waits may need them, so it must not keep the lock of the code that it interrupts."""
    gate = threading.Event()

    @ray.remote
    class Gate:
        def __init__(self):
            self.is_open = False

        def open(self):
            self.is_open = True

        def is_it(self):
            return self.is_open

    remote_gate = Gate.remote()
    ray.get(remote_gate.is_it.remote())
    refs = []

    def opens():
        gate.wait(30)
        ray.get(remote_gate.open.remote())

    def inside():
        gate.set()
        end = time.monotonic() + 30
        while not ray.get(remote_gate.is_it.remote()) and time.monotonic() < end:
            pass
        refs.append(ray.get(remote_gate.is_it.remote()))

    for point in range(20, 140, 20):
        gate.clear()
        refs.clear()
        thread = threading.Thread(target=opens)
        thread.start()
        ref, _ = interrupted(lambda: double.remote(1), point, inside, lambda path: path.startswith(_HERE))
        assert ray.get(ref) == 2
        gate.set()
        thread.join(30)
        assert not thread.is_alive()
        assert all(refs)


def test_finalisers_by_reference_count(session):
    class Last:
        def __init__(self, found):
            self.found = found

        def __del__(self):
            self.found.append(ray.get(double.remote(3), timeout=30))

    found: list[int] = []
    ray.get(double.remote(0))
    for _ in range(50):
        last = Last(found)
        ref = double.remote(1)
        del last
        assert ray.get(ref) == 2
    gc.collect()
    assert found == [6] * 50
