"""A worker that a signal ends which it owes to itself: the error says what sends it, and what to do instead."""

from __future__ import annotations

import os
import signal
import time

import pytest
from tests.sessions import shared, unchecked

import ray
from ray.exceptions import RayActorError, WorkerCrashedError

PATIENCE_S = 30.0
_session = shared(num_cpus=1)
nothing_left = unchecked()


def set_off(number: int) -> None:
    if number == signal.SIGALRM:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    elif number == signal.SIGPROF:
        signal.setitimer(signal.ITIMER_PROF, 0.01)
    else:
        os.kill(os.getpid(), number)
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:  # uses processor time
        pass


@ray.remote(max_retries=0)
def task(number: int) -> None:
    set_off(number)


@ray.remote
class Actor:
    def call(self, number: int) -> None:
        set_off(number)


SAID = [
    (signal.SIGALRM, "A timer of the process ended it, such as signal.alarm() sets"),
    (signal.SIGPROF, "A timer of the process ended it, such as signal.alarm() sets"),
    (signal.SIGVTALRM, "A timer of the process ended it, such as signal.alarm() sets"),
    (signal.SIGXCPU, "It used more processor time than a process may (ulimit -t)"),
]


@pytest.mark.parametrize(("number", "said"), SAID, ids=[number.name for number, _ in SAID])
def test_a_timer_or_a_limit(number: signal.Signals, said: str) -> None:
    actor = Actor.remote()
    with pytest.raises(RayActorError) as of_actor:
        ray.get(actor.call.remote(number), timeout=PATIENCE_S)
    with pytest.raises(WorkerCrashedError) as of_task:
        ray.get(task.remote(number), timeout=PATIENCE_S)
    for error in (of_task.value, of_actor.value):
        assert error.signal == number
        assert said in str(error)
        assert "logs" not in str(error)


def test_any_other_signal() -> None:
    with pytest.raises(
        WorkerCrashedError, match=r"SIGUSR1\)\. It was sent that signal, and had no handler for it\. With"
    ):
        ray.get(task.remote(signal.SIGUSR1), timeout=PATIENCE_S)
