"""Finalisers that wait while refs and handles are taken and handed on: all is freed in the end, nothing before."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tests import sessions
from tests.quick import first_of

import ray
from ray.testing import eventually
from ray.testing.interruption import interrupted

LIMIT_S = 30
#: The thread that takes the steps is not the one that polls each time. So many points in a row that no try has reached
#: are behind the last one.
TRIES, MISSED = 2, 4
#: The quick run tries one point in so many.
EVERY = 3
#: In shared memory, so that it is listed.
SIZE = 120_000
_RAY = os.path.dirname(ray.__file__) + os.sep
FILES = (
    "call_records.py",
    "calls.py",
    "carrying_out.py",
    "actors.py",
    "borrowing.py",
    "creating.py",
    "dependencies.py",
    "handed_refs.py",
    "handing_over.py",
    "handles.py",
    "inbox.py",
    "letting_go.py",
    "outcomes.py",
    "owner.py",
    "peers.py",
    "recording.py",
    "ref_pickling.py",
    "references.py",
    "starting.py",
    "streams.py",
    "submission.py",
    "unix_connection.py",
    "values.py",
)

session = sessions.shared(num_cpus=2, resources={"place": 100}, log_to_driver=False)
nothing_left = sessions.unchecked()


def hands_over(path):
    return path.startswith(_RAY) and path.endswith(FILES)


@ray.remote(num_cpus=0)
def tick():
    return 1


@ray.remote(num_cpus=0, resources={"place": 1})
class Owner:
    def make(self, count):
        return [ray.put(b"x" * SIZE) for _ in range(count)]

    def tell(self):
        return "told"


@ray.remote(num_cpus=0, resources={"place": 1})
class Borrower:
    def __init__(self):
        self.kept = []

    def pass_on(self, refs):
        return refs

    def keep(self, refs):
        self.kept = refs

    def sizes(self, refs):
        return [len(value) for value in ray.get(refs)]

    def stream(self, refs):
        for ref in refs:
            yield [ref]
            yield ray.put(b"x" * SIZE)

    def ask(self, actors):
        return [ray.get(actor.tell.remote()) for actor in actors]

    def at_points(self, name, first, *actors):
        return at_points(name, first, *actors)


def results_with_refs(owner, borrower):
    refs = ray.get(owner.make.remote(2), timeout=LIMIT_S)
    back = ray.get(borrower.pass_on.remote(refs), timeout=LIMIT_S)
    return [len(value) for value in ray.get(back, timeout=LIMIT_S)]


def results_that_nobody_looks_at(owner, borrower):
    made = owner.make.remote(2)
    sizes = borrower.sizes.remote(made)
    borrower.keep.remote(made)
    del made
    borrower.keep.remote([])
    return ray.get(sizes, timeout=LIMIT_S)


def values_that_hold_refs(owner, borrower):
    inner = ray.get(owner.make.remote(1), timeout=LIMIT_S)
    outer = ray.put([*inner, ray.put(b"x" * SIZE)])
    del inner
    return ray.get(borrower.sizes.remote(outer), timeout=LIMIT_S)


def results_dropped_on_their_way(owner, borrower):
    refs = ray.get(owner.make.remote(2), timeout=LIMIT_S)
    dropped = borrower.pass_on.remote(refs)
    sizes = borrower.sizes.remote(refs)
    del refs, dropped
    return ray.get(sizes, timeout=LIMIT_S)


def streams_left_half_way(owner, borrower):
    refs = ray.get(owner.make.remote(2), timeout=LIMIT_S)
    stream = borrower.stream.options(num_returns="streaming").remote(refs)
    del refs
    first, second = next(stream), next(stream)
    (inner,), put = ray.get([first, second], timeout=LIMIT_S)
    return [len(value) for value in ray.get([inner, put], timeout=LIMIT_S)]


def cancelled_calls(owner, borrower):
    refs = ray.get(owner.make.remote(2), timeout=LIMIT_S)
    cancelled = [borrower.pass_on.remote(refs) for _ in range(3)]
    ray.cancel(cancelled)
    ray.wait(cancelled, num_returns=3, timeout=LIMIT_S)
    return ray.get(borrower.sizes.remote(refs), timeout=LIMIT_S)


def handles(owner, borrower):
    actor = Owner.remote()
    told = borrower.ask.remote([actor, owner])
    del actor
    return ray.get(told, timeout=LIMIT_S)


STEPS = {
    step.__name__: step
    for step in (
        results_with_refs,
        results_that_nobody_looks_at,
        results_dropped_on_their_way,
        values_that_hold_refs,
        streams_left_half_way,
        cancelled_calls,
        handles,
    )
}


def at_points(name, first, owner, borrower):
    """Take the steps with a wait in their midst, at every third point from ``first`` on; returns at how many."""
    expected = ["told"] * 2 if name == "handles" else [SIZE] * 2

    def take():
        return STEPS[name](owner, borrower)

    assert take() == expected
    reached, missed, point = 0, 0, first - EVERY
    while missed < MISSED:
        point += EVERY
        missed += 1
        for _ in range(TRIES):
            seen = []

            def inside(seen=seen):
                seen.append(ray.get(tick.remote(), timeout=LIMIT_S))

            result, _ = interrupted(take, point, inside, hands_over)
            assert result == expected, f"interrupted at point {point}"
            if seen:
                reached, missed = reached + 1, 0
                break
    return reached


def left(session):
    """What there is: objects, and how many actors."""
    command = [sys.executable, "-m", "ray", "memory", "--format", "json", "--limit", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    objects = [
        report["objects"] for report in json.loads(done.stdout) if session["session_dir"].endswith(report["session"])
    ]
    return objects, ray.cluster_resources().get("place", 0) - ray.available_resources().get("place", 0)


@pytest.mark.timeout(240)  # on a busy machine
@pytest.mark.parametrize("first", [1, *(pytest.param(first, marks=pytest.mark.slow) for first in (2, 3))])
@pytest.mark.parametrize("place", first_of(["driver", "actor"]))
@pytest.mark.parametrize("name", first_of(STEPS, 4))
def test_all_is_freed_in_the_end(session, name, place, first):
    owner, borrower = Owner.remote(), Borrower.remote()
    if place == "driver":
        points = at_points(name, first, owner, borrower)
    else:
        points = ray.get(Borrower.remote().at_points.remote(name, first, owner, borrower), timeout=200)
    assert points > 6
    del owner, borrower
    eventually(lambda: left(session) == ([[]], 0), LIMIT_S, lambda: f"{left(session)} is left")
