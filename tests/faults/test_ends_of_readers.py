"""The end of a worker while another of its threads polls: neither disturbs the other, and nothing is said."""

from __future__ import annotations

import sys
import threading
import time

import pytest

import ray

TRANSPORT = "tests.faults.slow_transport"


@ray.remote(num_cpus=0)
class Actor:
    def ping(self):
        return 1

    def leave(self):
        ray.exit_actor()

    def exit(self, code):
        sys.exit(code)

    def wait(self, seconds):
        """A thread of the user's polls, and another one computes."""
        refs = [nap.remote(seconds) for _ in range(2)]
        for ref in refs:
            threading.Thread(target=ray.get, args=(ref,), daemon=True).start()
        return 1


@ray.remote(num_cpus=0)
def nap(seconds):
    time.sleep(seconds)


@ray.remote(max_calls=1, num_cpus=0)
def once(x):
    return x


def crowd(count=6):
    actors = [Actor.remote() for _ in range(count)]
    assert ray.get([actor.ping.remote() for actor in actors], timeout=50) == [1] * count
    return actors


@pytest.fixture
def quiet(start, capfd):
    """A session in which nothing of a worker may be said, or kept as an error."""
    start(num_cpus=2, transport=TRANSPORT)
    yield
    assert ray.error_info() == []
    ray.shutdown()
    said = [line for line in capfd.readouterr().err.splitlines() if "session" not in line and "finished" not in line]
    assert said == []


@pytest.mark.parametrize("how", ["leave", "exit"])
def test_actors_that_end_themselves(quiet, how):
    actors = crowd()
    calls = [actor.leave.remote() if how == "leave" else actor.exit.remote(0) for actor in actors]
    for call in calls:
        with pytest.raises(ray.exceptions.RayActorError, match=r"exit_actor\(\)|sys\.exit\(0\)"):
            ray.get(call, timeout=50)


def test_actors_that_nobody_holds(quiet):
    actors = crowd()
    pids = len(actors)
    del actors
    assert pids
    assert ray.get([Actor.remote().ping.remote() for _ in range(4)], timeout=50) == [1] * 4


def test_actors_whose_threads_wait(quiet):
    actors = crowd(3)
    assert ray.get([actor.wait.remote(30) for actor in actors], timeout=50) == [1] * 3
    for actor in actors:
        with pytest.raises(ray.exceptions.RayActorError):
            ray.get(actor.leave.remote(), timeout=50)


def test_tasks_that_end_their_worker(quiet):
    assert ray.get([once.remote(number) for number in range(8)], timeout=50) == list(range(8))


def test_an_exit_with_a_code_is_told_as_that(start, capfd):
    start(num_cpus=2, transport=TRANSPORT)
    for actor in crowd():
        with pytest.raises(ray.exceptions.RayActorError, match=r"sys\.exit\(3\)"):
            ray.get(actor.exit.remote(3), timeout=50)
    ray.shutdown()
    assert "internal error" not in capfd.readouterr().err
