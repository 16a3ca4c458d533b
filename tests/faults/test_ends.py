"""Orderly ends: they lose nothing that was submitted, and none of them takes longer than it may."""

from __future__ import annotations

import time

import pytest

import ray

LIMIT_S = 30.0


@ray.remote
def norm(value):
    return value


def get(refs):
    return ray.get(refs, timeout=LIMIT_S)


def until(condition, limit_s=LIMIT_S):
    """Wait for ``condition()`` to be true; returns what it gave."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not come true")


# --- what an ending process has submitted -------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"max_calls": 1}, {"num_gpus": 1}, {"max_calls": 2}], ids=str)
def test_a_retired_worker_serves_what_it_has_submitted(start, options):
    start(num_cpus=2, num_gpus=1)

    @ray.remote(**options)
    def nest(value):
        return norm.remote(value)

    @ray.remote(**options)
    def nest_list(value):
        return [norm.remote(value), norm.remote(norm.remote(value + 1))]

    for value in range(5):
        assert get(get(nest.remote(value))) == value
        assert get(get(nest_list.remote(value))) == [value, value + 1]


@ray.remote
def note(folder, name):
    time.sleep(0.01)
    (folder / str(name)).write_text("")


def submit_notes(folder, number):
    """Tasks of two scheduling classes: not all can have a worker by the time that this one ends."""
    for name in range(number):
        note.options(num_cpus=1 + name % 2).remote(folder, name)


@ray.remote
class Leaver:
    """Submits tasks whose refs nobody holds, and ends."""

    def submit(self, folder, number, *, leave=False):
        submit_notes(folder, number)
        if leave:
            ray.exit_actor()


@pytest.mark.parametrize("end", ["max_calls", "exit_actor", "terminate", "last handle"])
def test_subtasks_that_nobody_holds_run_all_the_same(start, tmp_path, end):
    start(num_cpus=2)
    if end == "max_calls":

        @ray.remote(max_calls=1)
        def spread():
            submit_notes(tmp_path, 10)

        get(spread.remote())
    else:
        actor = Leaver.remote()
        done = actor.submit.remote(tmp_path, 10, leave=end == "exit_actor")
        ray.wait([done], timeout=LIMIT_S * 1000)
        if end == "terminate":
            ray.wait([actor.__ray_terminate__.remote()], timeout=LIMIT_S * 1000)
        del actor, done
    until(lambda: len(list(tmp_path.iterdir())) == 10)
