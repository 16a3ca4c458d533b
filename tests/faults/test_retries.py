"""How often a task runs when its worker dies, counted outside of it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest
from tests import victims

import ray
from ray.exceptions import RayActorError, WorkerCrashedError
from ray.protocol.tasks import BATCH_TASKS
from ray.testing import eventually, inside


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


@pytest.mark.parametrize("way", [die_during, pytest.param(die_before_reply, marks=pytest.mark.slow)])
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


@pytest.mark.slow
def test_task_whose_result_has_arrived_is_not_run_again(start, tmp_path):
    start(num_cpus=1)
    for number in range(5):
        diary = Diary(tmp_path / str(number))
        ref = ray.remote(die_after_reply).options(max_retries=-1).remote(diary, 1)
        assert ray.get(ref, timeout=20) == "done"
        time.sleep(0.1)
        assert ray.get(ref) == "done"
        assert diary.attempts() == [0]


@pytest.mark.slow
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


@pytest.mark.parametrize("way", [pytest.param("during", marks=pytest.mark.slow), "before_reply"])
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


# --- results that were made, and not sent yet, when the process died --------------------------------------------------


@ray.remote(num_cpus=0)
class Shared:
    """Takes short calls while a first one holds it up, so that the others lie in its queue side by side."""

    def __init__(self, path):
        self.tally = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def hold(self, gate):
        gate.with_suffix(".held").touch()
        while not gate.exists():
            time.sleep(0.005)

    def note(self, name, deadly=False):
        """Much shorter than what is worth a message of its own."""
        os.write(self.tally, name)
        if deadly:
            die()
        return name

    def make(self, nbytes):
        time.sleep(0.001)  # long enough to be sent at once
        return bytes(nbytes)

    def die(self):
        die()


@ray.remote(num_cpus=0, max_retries=0)
def call_of_another_caller(actor, gate, method, *args):
    ref = getattr(actor, method).remote(*args)
    gate.with_suffix(".called").touch()
    with contextlib.suppress(RayActorError):
        ray.get(ref)


def queue_behind_each_other(actor, gate, mine, theirs):
    """Calls of this process, and then one of another process, none of which runs before all are there."""
    refs = [actor.hold.remote(gate)]
    eventually(gate.with_suffix(".held").exists)
    refs += [actor.note.remote(name) for name in mine]
    other = call_of_another_caller.remote(actor, gate, *theirs)
    eventually(gate.with_suffix(".called").exists)
    time.sleep(0.1)  # until it has arrived
    gate.touch()
    assert ray.get(refs[0], timeout=20) is None
    ray.get(other, timeout=20)
    return refs[1:]


#: As many as are sent to an actor at a time.
NAMES = [bytes([letter]) for letter in range(65, 65 + BATCH_TASKS)]


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_call_that_kills_the_actor_takes_no_earlier_results_along(start, tmp_path, restarts):
    """They are sent before a method runs of which is not known that it is short."""
    start(num_cpus=1)
    path = tmp_path / "tally"
    actor = Shared.options(max_restarts=restarts).remote(path)
    refs = queue_behind_each_other(actor, tmp_path / "gate", NAMES, ("die",))
    assert ray.get(refs, timeout=20) == NAMES
    assert path.read_bytes() == b"".join(NAMES)


@pytest.mark.slow
def test_a_task_that_kills_its_worker_takes_no_earlier_results_along(start):
    start(num_cpus=1)
    quick = ray.remote(max_retries=0)(lambda x: x)
    ray.get([quick.remote(i) for i in range(500)], timeout=20)  # known to be short, so that they are pushed in batches
    for _ in range(10):
        refs = [quick.remote(i) for i in range(20)]
        last = ray.remote(max_retries=0)(die).remote()
        assert ray.get(refs, timeout=20) == [*range(20)]
        with pytest.raises(WorkerCrashedError):
            ray.get(last, timeout=20)


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [0, -1])
def test_a_call_is_not_run_again_because_another_callers_call_killed_the_actor(start, tmp_path, restarts):
    """Nobody can tell this caller whether its calls ran, so they count as run."""
    start(num_cpus=1)
    for number in range(5):
        path = tmp_path / f"tally-{number}"
        actor = Shared.options(max_restarts=restarts).remote(path)
        assert ray.get(actor.note.remote(b"-"), timeout=20) == b"-"
        refs = queue_behind_each_other(actor, tmp_path / f"gate-{number}", NAMES, ("note", b"!", True))
        for name, ref in zip(NAMES, refs, strict=True):
            try:
                assert ray.get(ref, timeout=20) == name
            except RayActorError as error:
                assert "may have run" in str(error)  # noqa: PT017 - or it ends well
        if restarts:
            assert ray.get(actor.note.remote(b"+"), timeout=20) == b"+"
        assert path.read_bytes() == b"-" + b"".join(NAMES) + b"!" + b"+" * bool(restarts)


def test_a_call_whose_result_was_lost_with_its_actor_says_so(start, tmp_path):
    """The same method was short before, and then kills the process."""
    start(num_cpus=1)
    actor = Shared.remote(tmp_path / "tally")
    gate = tmp_path / "gate"
    assert ray.get(actor.note.remote(b"-"), timeout=20) == b"-"
    held = actor.hold.remote(gate)
    eventually(gate.with_suffix(".held").exists)
    refs = [actor.note.remote(name) for name in NAMES]
    last, *behind = (actor.note.remote(name, name == b"!") for name in [b"!", *NAMES])
    gate.touch()
    assert ray.get(held, timeout=20) is None
    for name, ref in zip(NAMES, refs, strict=True):
        try:
            assert ray.get(ref, timeout=20) == name
        except RayActorError as error:
            assert "note() ran, but its result was lost" in str(error)  # noqa: PT017 - or it ends well
    with pytest.raises(RayActorError, match=r"note\(\) did not complete"):
        ray.get(last, timeout=20)
    for ref in behind:
        with pytest.raises(RayActorError, match=r"note\(\) did not start"):
            ray.get(ref, timeout=20)
    assert (tmp_path / "tally").read_bytes() == b"-" + b"".join(NAMES) + b"!"


@pytest.mark.slow
def test_replies_that_were_sent_count_although_the_death_is_known_first(start, tmp_path):
    """The caller is busy: when it looks again the replies are there, many, and so is the report of the death."""
    start(num_cpus=1)
    count = BATCH_TASKS - 1
    for number in range(5):
        actor = Shared.remote(tmp_path / f"tally-{number}")
        gate = tmp_path / f"gate-{number}"
        held = actor.hold.remote(gate)
        eventually(gate.with_suffix(".held").exists)
        refs = [*(actor.make.remote(5000) for _ in range(count)), actor.die.remote()]
        with inside.standing_still():
            gate.touch()
            time.sleep(0.3)
        assert ray.get([held, *refs[:-1]], timeout=20) == [None] + [bytes(5000)] * count
        with pytest.raises(RayActorError):
            ray.get(refs[-1], timeout=20)
