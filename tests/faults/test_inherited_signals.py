"""Signals that the program, or a task before, has blocked or ignored: deaths are noticed and calls interrupted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time

import pytest

import ray
from ray.exceptions import RayActorError, TaskCancelledError, WorkerCrashedError
from ray.testing import eventually

LIMIT_S = 20
ALL = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


@contextlib.contextmanager
def blocked(signals):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def ignored(signals):
    before = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def nothing(signals):
    yield


@ray.remote(max_retries=0)
def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


@ray.remote(max_retries=0)
def wait(path):
    path.touch()
    time.sleep(LIMIT_S)
    return "not interrupted"


@ray.remote
def seen_by_a_program():
    return signals_of_a_program()


def signals_of_a_program():
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    # Two above those that programs may use are the C library's, which ignores them in what it starts by posix_spawn.
    return {name: int(facts[name], 16) & ~(3 << 31) for name in ("SigBlk", "SigIgn")}


@ray.remote
class Actor:
    def leave(self):
        os._exit(5)

    def wait(self, path):
        path.touch()
        time.sleep(LIMIT_S)
        return "not interrupted"

    def block(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def blocked(self):
        return signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def signals_of_a_program(self):
        return signals_of_a_program()


def is_cancelled(function, path):
    """Whether a cancel interrupts a call that has begun."""
    path.unlink(missing_ok=True)
    ref = function.remote(path)
    eventually(path.exists, LIMIT_S)
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=LIMIT_S)


@pytest.mark.parametrize("where", ["main thread", "other thread"])
@pytest.mark.parametrize(
    ("how", "signals"),
    [
        (blocked, {signal.SIGCHLD, signal.SIGINT}),
        (blocked, ALL),
        (ignored, {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGUSR1, signal.SIGHUP}),
    ],
    ids=["two blocked", "all blocked", "ignored"],
)
def test_what_the_program_makes_of_signals_is_its_own(start, tmp_path, where, how, signals):
    def begin():
        with how(signals) if how is blocked else nothing(signals):
            start(num_cpus=1, log_to_driver=False)

    with how(signals) if how is ignored else nothing(signals):
        if where == "main thread":
            begin()
        else:
            thread = threading.Thread(target=begin)
            thread.start()
            thread.join()
    with pytest.raises(WorkerCrashedError):
        ray.get(kill_itself.remote(), timeout=LIMIT_S)
    actor = Actor.remote()
    with pytest.raises(RayActorError, match="exit code 5"):
        ray.get(actor.leave.remote(), timeout=LIMIT_S)
    is_cancelled(wait, tmp_path / "task")
    actor = Actor.remote()
    is_cancelled(actor.wait, tmp_path / "actor")
    clean = {"SigBlk": 0, "SigIgn": 0}
    assert ray.get([seen_by_a_program.remote(), actor.signals_of_a_program.remote()], timeout=LIMIT_S) == [clean] * 2


def test_the_mask_of_a_task_goes_with_it(start, tmp_path):
    start(num_cpus=1, log_to_driver=False)

    @ray.remote
    def blocks(signals):
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        return os.getpid()

    @ray.remote
    def blocks_and_fails():
        signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
        raise KeyError

    @ray.remote
    def mask():
        return os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, ())

    for signals in ({signal.SIGINT}, ALL):
        pid = ray.get(blocks.remote(signals), timeout=LIMIT_S)
        assert ray.get(mask.remote(), timeout=LIMIT_S) == (pid, set())
        ray.get(blocks.remote(signals), timeout=LIMIT_S)
        is_cancelled(wait, tmp_path / "task")
    with pytest.raises(KeyError):
        ray.get(blocks_and_fails.remote(), timeout=LIMIT_S)
    is_cancelled(wait, tmp_path / "task")
    ray.get(blocks.remote(ALL), timeout=LIMIT_S)
    is_cancelled(Actor.remote().wait, tmp_path / "actor")


def test_the_mask_of_an_actor_stays(start):
    start(num_cpus=1, log_to_driver=False)
    actor = Actor.remote()
    ray.get(actor.block.remote(), timeout=LIMIT_S)
    assert ray.get(actor.blocked.remote(), timeout=LIMIT_S) == {signal.SIGINT}
