"""``ray.cancel`` in a race with everything: it never hangs and never hits another task."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from tests.quick import first_of
from tests.stopwatch import Stopwatch

import ray
from ray.exceptions import RayActorError, TaskCancelledError, TaskTimeoutError
from ray.testing import eventually

#: A get that takes longer than this hangs.
LIMIT_S = 20
CANCELLED = "cancelled"


@ray.remote(max_retries=0)
def echo(x):
    return x


@ray.remote(max_retries=0)
def sleep(seconds, x):
    time.sleep(seconds)
    return x


@ray.remote(max_retries=0)
def compute(seconds, x):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(100))
    return x


@ray.remote(max_retries=0)
def parent(seconds, x):
    """Waits for a child."""
    return ray.get(sleep.remote(seconds, x))


@ray.remote(max_retries=0)
def grandparent(seconds, x):
    return ray.get([parent.remote(seconds, x), parent.remote(seconds, x)])[0]


@ray.remote
class Actor:
    def __init__(self):
        self.calls = 0

    def sleep(self, seconds, x):
        self.calls += 1
        time.sleep(seconds)
        return x

    def pid(self):
        return os.getpid()


def outcome(ref):
    """The value, or that it was cancelled; anything else is wrong."""
    try:
        return ray.get(ref, timeout=LIMIT_S)
    except TaskCancelledError:
        return CANCELLED


def race(chance, make, bystanders, x):
    """Cancel one task at some moment of its life, among others that must not notice."""
    others = [echo.remote(i) for i in range(bystanders)]
    seconds = chance.choice([0.0, 0.001, 0.01, 30.0])
    ref = make(seconds, x)
    others += [echo.remote(i) for i in range(bystanders)]
    delay = chance.choice([0.0, 0.0005, 0.002, 0.01, 0.03, LIMIT_S])
    if delay < LIMIT_S:
        time.sleep(delay)
    elif seconds < 1:  # it is done, however slow the machine is
        ray.wait([ref], timeout=1000 * LIMIT_S)
    for _ in range(chance.choice([1, 1, 2])):
        ray.cancel(ref)
    got = outcome(ref)
    assert got in (x, CANCELLED)
    assert ray.get(others, timeout=LIMIT_S) == [*range(bystanders)] * 2
    return got


@pytest.mark.timeout(600)
@pytest.mark.parametrize("make", [sleep.remote, compute.remote], ids=["sleep", "compute"])
@pytest.mark.parametrize("bystanders", first_of([20, 0]))
def test_races_of_tasks(start, rounds, make, bystanders):
    start(num_cpus=1)
    chance = random.Random(bystanders)
    got = [race(chance, make, bystanders, x) for x in range(rounds(75, 2500))]
    print("cancelled:", got.count(CANCELLED), "of", len(got))
    assert 0 < got.count(CANCELLED) < len(got)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("make", first_of([grandparent.remote, parent.remote]), ids=["grandparent", "parent"])
def test_races_of_nested_tasks(start, rounds, make):
    start(num_cpus=2)
    chance = random.Random(2)
    got = [race(chance, make, 2, x) for x in range(rounds(50, 1000))]
    print("cancelled:", got.count(CANCELLED), "of", len(got))
    assert 0 < got.count(CANCELLED) < len(got)


@pytest.mark.timeout(600)
def test_races_of_actor_calls(start, rounds):
    start(num_cpus=1)
    chance = random.Random(3)
    actor = Actor.remote()
    pid = ray.get(actor.pid.remote(), timeout=LIMIT_S)
    got = []
    for x in range(rounds(100, 2500)):
        before, after = actor.sleep.remote(0, -1), actor.sleep.remote
        got.append(race(chance, actor.sleep.remote, 1, x))
        assert ray.get([before, after(0, -2)], timeout=LIMIT_S) == [-1, -2]
    print("cancelled:", got.count(CANCELLED), "of", len(got))
    assert 0 < got.count(CANCELLED) < len(got)
    assert ray.get(actor.pid.remote(), timeout=LIMIT_S) == pid


@pytest.mark.timeout(600)
def test_some_of_many_short_tasks(start, rounds):
    """They are pushed in batches: those cancelled and those not are next to each other."""
    start(num_cpus=2)
    chance = random.Random(4)
    for _ in range(rounds(40, 1000)):
        refs = [echo.remote(i) for i in range(200)]
        victims = set(chance.sample(range(200), 20))
        ray.cancel([refs[i] for i in victims])
        for i, ref in enumerate(refs):
            got = outcome(ref)
            assert got == i or (got == CANCELLED and i in victims)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_cancel_at_the_end_of_a_task_does_not_hit_the_next(start, rounds):
    """The cancel arrives just when the worker goes on to a task that must not be interrupted."""
    start(num_cpus=1)
    for _ in range(rounds(100, 3000)):
        refs = [compute.remote(0.002, i) for i in range(6)]
        for i in (0, 2, 4):
            time.sleep(0.0017)
            ray.cancel(refs[i])
        got = [outcome(ref) for ref in refs]
        assert [got[i] for i in (1, 3, 5)] == [1, 3, 5]


@pytest.mark.timeout(600)
def test_forced_races(start, rounds):
    """The worker is killed, and only while it runs that task."""
    start(num_cpus=1)
    chance = random.Random(5)
    for x in range(rounds(60, 1000)):
        seconds = chance.choice([0.0, 0.003, 30.0])
        ref = sleep.remote(seconds, x)
        behind = [sleep.remote(0.001, i) for i in range(3)]
        time.sleep(chance.choice([0.0, 0.003, 0.02]))
        ray.cancel(ref, force=True)
        assert outcome(ref) in (x, CANCELLED)
        assert ray.get(behind, timeout=LIMIT_S) == [0, 1, 2]


def test_how_fast(start):
    start(num_cpus=1)
    ray.get(echo.remote(1), timeout=LIMIT_S)
    for name, make, options in (
        ("queued", lambda: [sleep.remote(30, 0), sleep.remote(30, 1)], {}),
        ("running", lambda: [sleep.remote(30, 0)], {}),
        ("nested", lambda: [parent.remote(30, 0)], {}),
        ("forced", lambda: [sleep.remote(30, 0)], {"force": True}),
    ):
        refs = make()
        time.sleep(0.3)
        started = Stopwatch()
        ray.cancel(refs[-1], **options)
        assert outcome(refs[-1]) == CANCELLED
        took = started.undisturbed_s()
        print(f"{name}: {took * 1000:.1f} ms")
        assert took < 1.0
        ray.cancel(refs)
        assert outcome(refs[0]) == CANCELLED
    assert ray.get(echo.remote(2), timeout=LIMIT_S) == 2


def slowly(seconds):
    time.sleep(seconds)


class SlowToUnpickle:
    def __reduce__(self):
        return slowly, (0.3,)


@pytest.mark.parametrize("moment", first_of([0.2, 0.05, 0.45]))
def test_cancel_while_arguments_are_unpickled(start, moment):
    start(num_cpus=1)
    actor = Actor.remote()
    assert ray.get([echo.remote(0), actor.sleep.remote(0, 0)], timeout=LIMIT_S) == [0, 0]
    refs = [sleep.remote(30, SlowToUnpickle()), actor.sleep.remote(30, SlowToUnpickle())]
    time.sleep(moment)
    started = Stopwatch()
    ray.cancel(refs)
    assert [outcome(ref) for ref in refs] == [CANCELLED, CANCELLED]
    assert started.undisturbed_s() < 2


def test_cancel_while_the_worker_gives_it_back(start, rounds):
    """The cancel crosses the return of a task that a blocked worker had not started."""
    start(num_cpus=1)

    @ray.remote(max_retries=0)
    def waits(i):
        return ray.get(echo.remote(i)) if i % 2 else i

    ray.get([waits.remote(0) for _ in range(200)], timeout=LIMIT_S)  # short: the next ones are pushed in batches
    for x in range(rounds(10, 100)):
        refs = [waits.remote(i) for i in range(60)]
        time.sleep(x % 10 * 0.0005)
        ray.cancel(refs[30:])
        assert [outcome(ref) for ref in refs[:30]] == [*range(30)]
        assert all(outcome(ref) in (i, CANCELLED) for i, ref in enumerate(refs[30:], 30))
        sleeper = sleep.remote(30, x)
        ray.cancel(sleeper)
        assert outcome(sleeper) == CANCELLED


def test_children_are_cancelled_too(start, tmp_path):
    start(num_cpus=2)

    @ray.remote(max_retries=0)
    def child():
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            (tmp_path / "interrupted").touch()
            raise

    @ray.remote(max_retries=0)
    def waits():
        (tmp_path / "runs").touch()
        return ray.get(child.remote())

    ref = waits.remote()
    while not (tmp_path / "runs").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    ray.cancel(ref)
    assert outcome(ref) == CANCELLED
    eventually((tmp_path / "interrupted").exists, 5)


def test_what_is_not_cancelled(start):
    start(num_cpus=1)
    done = echo.remote(1)
    assert ray.get(done, timeout=LIMIT_S) == 1
    ray.cancel(done)
    ray.cancel(done, force=True)
    assert ray.get(done) == 1
    put = ray.put(2)
    ray.cancel(put)
    assert ray.get(put) == 2


def test_a_signal_that_comes_right_before_a_system_call(start, tmp_path):
    """Such a signal has no effect until the call returns, as one that is swallowed; another one has."""
    start(num_cpus=1)
    path = tmp_path / "ready"

    @ray.remote(max_retries=0)
    def sleeps():
        handler = signal.signal(signal.SIGINT, lambda *_: signal.signal(signal.SIGINT, handler))
        path.touch()
        time.sleep(30)

    ref = sleeps.remote()
    while not path.exists():
        time.sleep(0.01)
    started = Stopwatch()
    ray.cancel(ref)
    assert outcome(ref) == CANCELLED
    assert started.undisturbed_s() < 5


def test_dependents_of_a_cancelled_task_fail_too(start):
    start(num_cpus=1)
    blocker = sleep.remote(30, 0)
    queued = echo.remote(1)
    dependents = [echo.remote(queued), echo.remote(echo.remote(queued))]
    ray.cancel(queued)
    assert [outcome(ref) for ref in dependents] == [CANCELLED, CANCELLED]
    ray.cancel(blocker)
    assert outcome(blocker) == CANCELLED


def test_a_task_that_catches_the_interrupt(start):
    """It may clean up; whether it then returns or raises, the caller gets an end."""
    start(num_cpus=1)

    @ray.remote(max_retries=0)
    def stubborn():
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            return "cleaned up"

    ref = stubborn.remote()
    time.sleep(0.3)
    ray.cancel(ref)
    assert outcome(ref) in ("cleaned up", CANCELLED)
    assert ray.get(echo.remote(3), timeout=LIMIT_S) == 3


def test_one_cancel_interrupts_once(start, tmp_path):
    """Another signal on its way must not hit what the task does to clean up; another cancel is another matter."""
    start(num_cpus=1)

    @ray.remote(max_retries=0)
    def cleans_up():
        for number in range(2):
            try:
                (tmp_path / f"waits {number}").touch()
                time.sleep(30)
            except KeyboardInterrupt:
                try:
                    for _ in range(100):
                        signal.raise_signal(signal.SIGINT)
                        time.sleep(0.001)
                except KeyboardInterrupt:
                    return "interrupted again"
        return "cleaned up twice"

    ref = cleans_up.remote()
    for number in range(2):
        while not (tmp_path / f"waits {number}").exists():
            assert not ray.wait([ref], timeout=10)[0]
        ray.cancel(ref)
    assert ray.get(ref, timeout=LIMIT_S) == "cleaned up twice"
    assert ray.get(echo.remote(3), timeout=LIMIT_S) == 3


@pytest.mark.timeout(300)
def test_time_limits_in_races(start, rounds):
    start(num_cpus=1)
    chance = random.Random(6)
    limited = sleep.options(timeout_s=0.02), compute.options(timeout_s=0.02)
    for x in range(rounds(60, 2000)):
        function = chance.choice(limited)
        ref = function.remote(chance.choice([0.0, 0.019, 0.02, 0.021, 5.0]), x)
        others = [echo.remote(i) for i in range(5)]
        try:
            assert ray.get(ref, timeout=LIMIT_S) == x
        except TaskTimeoutError as error:
            assert "timeout_s=0.02" in str(error)  # noqa: PT017 - it may also end in time
        assert ray.get(others, timeout=LIMIT_S) == [*range(5)]


def test_time_limit_of_code_that_cannot_be_interrupted(start):
    start(num_cpus=1)

    @ray.remote(max_retries=0, timeout_s=0.2)
    def deaf():
        while True:
            try:
                time.sleep(30)
            except KeyboardInterrupt:
                continue

    started = Stopwatch()
    with pytest.raises(TaskTimeoutError):
        ray.get(deaf.remote(), timeout=LIMIT_S)
    assert started.undisturbed_s() < 5
    assert ray.get(echo.remote(4), timeout=LIMIT_S) == 4


def test_cancel_while_the_actor_starts_and_after_its_end(start):
    start(num_cpus=1)

    @ray.remote
    class Slow:
        def __init__(self):
            time.sleep(0.3)

        def echo(self, x):
            return x

    actor = Slow.remote()
    first, second = actor.echo.remote(1), actor.echo.remote(2)
    ray.cancel(first)
    assert outcome(first) == CANCELLED
    assert outcome(second) == 2
    ray.kill(actor)
    late = actor.echo.remote(3)
    ray.cancel(late)
    with pytest.raises((RayActorError, TaskCancelledError)):
        ray.get(late, timeout=LIMIT_S)
