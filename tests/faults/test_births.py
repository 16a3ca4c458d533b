"""Processes that end, or stand still, while workers are born: their calls are answered, and others come up."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest
from tests import sessions, victims

import ray

LIMIT_S = 40

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="children are not to be seen here")


session = sessions.shared(num_cpus=1, log_to_driver=False)
nothing_left = sessions.unchecked()


@ray.remote(max_retries=0, max_calls=1)
def die():
    time.sleep(0.02)
    os._exit(3)


@ray.remote(max_calls=1)
def one():
    return 1


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


class Watch:
    """Does something to processes as soon as they are there, as often as ``hits`` says."""

    def __init__(self, find, hit, hits):
        self.left = hits
        self._find, self._hit = find, hit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        seen = set()
        while self.left and not self._stop.is_set():
            for pid in self._find():
                if self.left and pid not in seen:
                    seen.add(pid)
                    with contextlib.suppress(ProcessLookupError):
                        self._hit(pid)
                        self.left -= 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join()


def between():
    """Finds the process between the zygote and a worker that is born."""
    zygote = victims.zygote()
    return lambda: children(zygote)


def newborn():
    """Finds workers that were not there yet."""
    assert ray.get(one.remote(), timeout=LIMIT_S) == 1
    node = victims.node_manager()
    before = set(children(node))
    return lambda: [pid for pid in children(node) if pid not in before]


def sends(number):
    return lambda pid: os.kill(pid, number)


def all_are_answered(watch):
    """Until it has hit, and once more afterwards."""
    end = time.monotonic() + LIMIT_S
    while watch.left:
        assert time.monotonic() < end, "no process was hit"
        answered()
    answered()


def answered():
    began = time.monotonic()
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(die.remote(), timeout=LIMIT_S)
    assert ray.get(one.remote(), timeout=LIMIT_S) == 1
    assert time.monotonic() - began < 25, "it was waited for a start that would not come"


@pytest.mark.slow
def test_the_process_between_is_killed():
    with Watch(between(), sends(signal.SIGKILL), 8) as watch:
        all_are_answered(watch)


@pytest.mark.slow
def test_the_process_between_is_stopped():
    with Watch(between(), sends(signal.SIGSTOP), 1) as watch:
        all_are_answered(watch)


def test_it_is_stopped_and_the_zygote_killed():
    """The one that stands still holds the zygote's channel to the node manager."""
    zygote = victims.zygote()

    def hit(pid):
        os.kill(pid, signal.SIGSTOP)
        with contextlib.suppress(ProcessLookupError):
            os.kill(zygote, signal.SIGKILL)

    with Watch(between(), hit, 1) as watch:
        all_are_answered(watch)


def test_it_is_stopped_beside_its_child_and_then_killed():
    """The child stands still before it belongs to any process that looks after it."""

    def hit(pid):
        os.kill(pid, signal.SIGSTOP)
        for child in children(pid):
            os.kill(child, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)

    with Watch(between(), hit, 2) as watch:
        all_are_answered(watch)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
def test_a_worker_ends_or_stands_still_as_it_comes_up(number):
    with Watch(newborn(), sends(number), 1) as watch:
        end = time.monotonic() + LIMIT_S
        while watch.left:
            assert time.monotonic() < end, "no process was hit"
            with contextlib.suppress(ray.exceptions.WorkerCrashedError):
                assert ray.get(one.remote(), timeout=LIMIT_S) == 1
    answered()
