"""How often a task runs when its worker dies, counted outside of it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest
from tests.faults import victims

import ray
from ray.exceptions import RayActorError, WorkerCrashedError


class Diary:
    """A file to which each execution adds a line with its attempt number."""

    def __init__(self, path):
        self.path = str(path)

    def note(self):
        """Add a line; returns how many there are."""
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, f"{ray.get_runtime_context().attempt}\n".encode())
        os.close(file)
        return len(self.attempts())

    def attempts(self):
        """Attempt numbers in the order of execution."""
        try:
            with open(self.path) as file:
                return [int(line) for line in file]
        except FileNotFoundError:
            return []


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class DiesWhenPickled:
    def __reduce__(self):
        die()


def die_during(diary, deaths):
    if diary.note() <= deaths:
        die()
    return "done"


def die_before_reply(diary, deaths):
    return DiesWhenPickled() if diary.note() <= deaths else "done"


def die_after_reply(diary, deaths):
    if diary.note() <= deaths:
        threading.Timer(0.05, die).start()
    return "done"


CASES = [
    # retries, deaths, executions
    (0, 0, 1),
    (0, 1, 1),
    (1, 1, 2),
    (1, 2, 2),
    (3, 3, 4),
    (-1, 4, 5),
]


@pytest.mark.parametrize("way", [die_during, die_before_reply], ids=lambda way: way.__name__)
def test_task(start, tmp_path, way):
    start(num_cpus=1)
    for number, (retries, deaths, executions) in enumerate(CASES):
        diary = Diary(tmp_path / str(number))
        ref = ray.remote(way).options(max_retries=retries).remote(diary, deaths)
        if executions > deaths:
            assert ray.get(ref, timeout=20) == "done"
        else:
            with pytest.raises(WorkerCrashedError) as caught:
                ray.get(ref, timeout=20)
            assert (f"run {executions} times" in str(caught.value)) == (executions > 1)
        assert diary.attempts() == list(range(executions))


def test_task_whose_result_has_arrived_is_not_run_again(start, tmp_path):
    start(num_cpus=1)
    for number in range(5):
        diary = Diary(tmp_path / str(number))
        ref = ray.remote(die_after_reply).options(max_retries=-1).remote(diary, 1)
        assert ray.get(ref, timeout=20) == "done"
        time.sleep(0.1)
        assert ray.get(ref) == "done"
        assert diary.attempts() == [0]


def test_task_that_did_not_start_costs_no_retry(start, tmp_path, rounds):
    """Idle workers are killed under the pushed task: it runs elsewhere, once, even with no retries."""
    start(num_cpus=2)
    for number in range(rounds(20, 500)):
        diary = Diary(tmp_path / str(number))
        for pid in victims.workers():
            os.kill(pid, signal.SIGKILL)
        assert ray.get(ray.remote(die_during).options(max_retries=0).remote(diary, 0), timeout=20) == "done"
        assert diary.attempts() == [0]


def test_queued_tasks_of_a_dead_worker_run_once(start, tmp_path):
    """Those behind the one that died had not started; unsent results of some before it are lost with the worker."""
    start(num_cpus=1)
    task = ray.remote(die_during).options(max_retries=0)
    diaries = [Diary(tmp_path / str(number)) for number in range(100)]
    refs = [task.remote(diary, 1 if number == 30 else 0) for number, diary in enumerate(diaries)]
    for number, ref in enumerate(refs):
        if number > 30:
            assert ray.get(ref, timeout=20) == "done"
            continue
        with contextlib.suppress(WorkerCrashedError) if number < 30 else pytest.raises(WorkerCrashedError) as caught:
            assert ray.get(ref, timeout=20) == "done"
        assert caught is None or "ran a later task" not in str(caught.value)
    assert [diary.attempts() for diary in diaries] == [[0]] * 100
    del refs, ref


@ray.remote(num_cpus=0)
class Patient:
    def during(self, diary, deaths):
        return die_during(diary, deaths)

    def before_reply(self, diary, deaths):
        return die_before_reply(diary, deaths)

    def after_reply(self, diary, deaths):
        return die_after_reply(diary, deaths)

    def pid(self):
        return os.getpid()


ACTOR_CASES = [
    # max_restarts, max_task_retries, deaths, executions, the actor lives
    (0, 0, 1, 1, False),
    (1, 0, 1, 1, True),
    (1, 1, 1, 2, True),
    (1, -1, 1, 2, True),
    (1, -1, 2, 2, False),
    (-1, 0, 1, 1, True),
    (-1, 1, 1, 2, True),
    (-1, 1, 2, 2, True),
    (-1, -1, 3, 4, True),
]


@pytest.mark.parametrize("way", ["during", "before_reply"])
def test_actor(start, tmp_path, way):
    start(num_cpus=1)
    for number, (restarts, retries, deaths, executions, lives) in enumerate(ACTOR_CASES):
        diary = Diary(tmp_path / str(number))
        actor = Patient.options(max_restarts=restarts, max_task_retries=retries).remote()
        ref = getattr(actor, way).remote(diary, deaths)
        if executions > deaths:
            assert ray.get(ref, timeout=20) == "done"
        else:
            with pytest.raises(RayActorError, match="SIGKILL"):
                ray.get(ref, timeout=20)
        assert diary.attempts() == list(range(executions))
        if lives:
            assert ray.get(actor.pid.remote(), timeout=20) > 0
        else:
            with pytest.raises(RayActorError):
                ray.get(actor.pid.remote(), timeout=20)


@pytest.mark.parametrize("restarts", [0, 1, -1])
def test_call_whose_result_has_arrived_is_not_run_again(start, tmp_path, restarts):
    start(num_cpus=1)
    diary = Diary(tmp_path / "diary")
    actor = Patient.options(max_restarts=restarts, max_task_retries=-1 if restarts else 0).remote()
    ref = actor.after_reply.remote(diary, 1)
    assert ray.get(ref, timeout=20) == "done"
    time.sleep(0.2)
    assert ray.get(ref) == "done"
    assert diary.attempts() == [0]


def test_calls_keep_their_order_across_restarts(start, tmp_path):
    """Calls behind the one that died run after its retry, each once."""
    start(num_cpus=1)
    diary = Diary(tmp_path / "diary")
    actor = Patient.options(max_restarts=-1, max_task_retries=-1).remote()
    first = [actor.during.remote(diary, 2) for _ in range(10)]
    assert ray.get(first, timeout=20) == ["done"] * 10
    assert diary.attempts() == [0, 1, 2, *[0] * 9]
    del first
