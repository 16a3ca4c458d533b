"""Finalisers that wait in the middle of a push: what goes along with it goes, once."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time

import pytest
from tests import sessions

import ray
from ray.testing.interruption import interrupted

#: Too large to go inside the message, too small for the store: receivers keep such arguments.
SIZE = 60_000
BIG = 200_000
LIMIT_S = 30
FILES = (
    "calls.py",
    "call_records.py",
    "leasing.py",
    "carrying_out.py",
    "tasks.py",
    "task_records.py",
    "recalls.py",
    "pushing.py",
    "records.py",
    "peers.py",
    "handed_refs.py",
    "borrowing.py",
)
_RUNTIME = tuple(os.path.join(os.path.dirname(ray.__file__), room, "") for room in ("runtime", "protocol"))


def pushes(path):
    return path.startswith(_RUNTIME) and path.endswith(FILES)


def before_it_is_handed_on(path):
    return path.startswith(_RUNTIME) and path.endswith(("calls.py", "carrying_out.py", "records.py", "handed_refs.py"))


session = sessions.shared(num_cpus=3, log_to_driver=False)
nothing_left = sessions.unchecked()


@ray.remote
def size_of(value):
    return len(value)


@ray.remote
class Actor:
    def size(self, value):
        return len(value)

    def take(self, refs):
        return len(refs)


@ray.remote
class AsyncActor:
    async def size(self, value):
        return len(value)

    async def take(self, refs):
        return len(refs)


def every_point(call, inside):
    """Run ``call(new ref)`` with ``inside(the same ref)`` in its midst, at one point after the other."""
    _, points = interrupted(lambda: call(ray.put(b"x" * SIZE)), 0, int, pushes)
    assert points > 20
    for point in range(1, points + 1):
        ref = ray.put(b"x" * SIZE)
        found = []
        result, _ = interrupted(
            lambda ref=ref: call(ref), point, lambda ref=ref, found=found: found.append(inside(ref)), pushes
        )
        assert result == [SIZE, SIZE], f"the call that was interrupted at point {point}"
        assert found in ([], [SIZE]), f"the call that interrupts it at point {point}"


@pytest.mark.parametrize("kind", [Actor, AsyncActor])
@pytest.mark.parametrize("waits_for", ["the same value", "nothing else"])
def test_calls_of_actors_have_their_large_arguments(kind, waits_for):
    actor = kind.remote()
    ray.get(actor.take.remote([]))

    def call(ref):
        return ray.get([actor.size.remote(ref), actor.size.remote(ref)], timeout=LIMIT_S)

    def inside(ref):
        return ray.get(actor.size.remote(ref if waits_for == "the same value" else b"x" * SIZE), timeout=LIMIT_S)

    every_point(call, inside)


@pytest.mark.parametrize("waits_for", ["the same value", "nothing else"])
def test_tasks_have_their_large_arguments(waits_for):
    ray.get([size_of.remote(b"") for _ in range(3)])

    def call(ref):
        return ray.get([size_of.remote(ref), size_of.remote(ref)], timeout=LIMIT_S)

    def inside(ref):
        return ray.get(size_of.remote(ref if waits_for == "the same value" else b"x" * SIZE), timeout=LIMIT_S)

    every_point(call, inside)


def of_several_classes():
    """Some of them wait for workers that others have."""
    return [size_of.options(num_cpus=cpus).remote(b"x" * 10) for cpus in (1, 2, 3, 1, 2)]


def test_tasks_of_several_classes_have_their_workers():
    def plans(path):
        return path.startswith(_RUNTIME) and path.endswith(
            (
                "leasing.py",
                "carrying_out.py",
                "tasks.py",
                "task_records.py",
                "recalls.py",
                "pushing.py",
                "records.py",
                "scheduling_classes.py",
            )
        )

    def inside():
        assert ray.get(size_of.options(num_cpus=3, priority=1).remote(b"123"), timeout=LIMIT_S) == 3

    point, points = 0, 1
    while point <= points:
        kept = of_several_classes()
        refs, points = interrupted(of_several_classes, point, inside, plans)
        assert ray.get([*kept, *refs], timeout=LIMIT_S) == [10] * 10, f"interrupted at point {point}"
        point += 1
    assert points > 20


@ray.remote
def sizes(*values):
    return list(map(len, values))


def test_what_was_sent_and_has_ended_meanwhile_is_not_looked_at_again():
    """The lease comes while the caller waits; the code inside sends the task, and waits until all of it is freed."""

    def plans(path):
        return path.startswith(_RUNTIME) and path.endswith(("records.py", "peers.py", "pushing.py"))

    classes = itertools.count(1)
    reached = 0
    for point in range(1, 40):
        for _ in range(6):  # the other thread may poll, and push
            cpus = 1 + next(classes) / 1000  # another class each time, which has no worker yet
            out = sizes.options(num_cpus=cpus).remote(*[ray.put(b"x" * SIZE) for _ in range(3)])
            seen = []

            def inside(out=out, seen=seen):
                seen.append(ray.get(out, timeout=LIMIT_S))

            result, _ = interrupted(lambda out=out: ray.get(out, timeout=LIMIT_S), point, inside, plans)
            assert result == [SIZE] * 3, f"interrupted at point {point}"
            if seen:
                reached += 1
                break
    assert reached > 10


@ray.remote
def hand_on(refs, actor):
    """Hand a borrowed ref to an actor, with a wait in the midst of that at one point after the other."""

    def call():
        return ray.get(actor.take.remote(refs), timeout=LIMIT_S)

    ray.get(actor.take.remote([]))  # connected
    _, points = interrupted(call, 0, int, before_it_is_handed_on)
    for point in range(1, points + 1):
        interrupted(call, point, lambda: ray.get(actor.take.remote([]), timeout=LIMIT_S), before_it_is_handed_on)
    return points


def held(ref_hex):
    done = subprocess.run(
        [sys.executable, "-m", "ray", "memory", "--format", "json"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return ref_hex in done.stdout


@pytest.mark.parametrize("kind", [Actor, AsyncActor])
def test_refs_of_others_are_handed_on_once(kind):
    actor = kind.remote()
    ref = ray.put(b"x" * BIG)
    assert ray.get(hand_on.remote([ref], actor)) > 20
    name = ref.hex()
    assert held(name)
    del ref
    end = time.monotonic() + LIMIT_S
    while held(name) and time.monotonic() < end:
        time.sleep(0.2)
    assert not held(name), "a process still holds it"
    assert ray.get(actor.take.remote([])) == 0  # the receiver lives: what it holds would count
