"""Finalisers that wait while a process connects to an actor, for the first time or once more: each call runs once."""

from __future__ import annotations

import os

import pytest
from tests import sessions
from tests.quick import first_of

import ray
from ray.testing.interruption import interrupted

LIMIT_S = 30
FILES = ("calls.py", "carrying_out.py", "call_records.py", "actor_client.py", "call_order.py", "fates.py", "peers.py")
_OWNER = tuple(os.path.join(os.path.dirname(ray.__file__), room, "") for room in ("runtime", "protocol"))
#: At so many of the points that are tried the caller itself has polled, and was interrupted.
ENOUGH = 5
#: The caller is not the one that polls each time, and on a busy machine seldom. So many points in a row that no try has
#: reached are behind the last one.
TRIES, MISSED = 2, 5
#: The quick run tries one point in so many.
EVERY = 3

session = sessions.shared(num_cpus=2, log_to_driver=False)
nothing_left = sessions.unchecked()


def connects(path):
    return path.startswith(_OWNER) and path.endswith(FILES)


@ray.remote(num_cpus=0)
def tick():
    return 1


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1
        return self.count

    def ping(self):
        return 1

    def die_once(self, path):
        if not os.path.exists(path):
            with open(path, "w"):
                os._exit(1)
        return 0


def at_points(begin, expected, waits_for, first):
    """Get what ``begin()`` has submitted, at one point in three with a wait for ``waits_for(the actor)`` inside."""
    reached, missed, point = 0, 0, first - EVERY
    while missed < MISSED:
        point += EVERY
        for _ in range(TRIES):
            actor, refs = begin()
            seen = []

            def inside(actor=actor, seen=seen):
                seen.append(ray.get(waits_for(actor), timeout=LIMIT_S))

            result, _ = interrupted(lambda refs=refs: ray.get(refs, timeout=LIMIT_S), point, inside, connects)
            assert result == expected, f"interrupted at point {point}"
            after = ray.get(actor.add.remote(), timeout=LIMIT_S)
            assert after == expected[-1] + 1, f"after an interrupt at point {point}"
            if seen:
                reached, missed = reached + 1, 0
                break
        else:
            missed += 1
    assert reached >= ENOUGH


#: What the one that interrupts waits for.
WAITS = {"a task": lambda actor: tick.remote(), "a call of its own": lambda actor: actor.ping.remote()}


@pytest.mark.timeout(240)  # on a busy machine
@pytest.mark.parametrize("first", [1, *(pytest.param(first, marks=pytest.mark.slow) for first in (2, 3))])
@pytest.mark.parametrize("waits_for", WAITS)
def test_to_a_new_actor(waits_for, first):
    def begin():
        actor = Counter.remote()
        return actor, [actor.add.remote() for _ in range(4)]

    at_points(begin, [1, 2, 3, 4], WAITS[waits_for], first)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("first", [1, *(pytest.param(first, marks=pytest.mark.slow) for first in (2, 3))])
@pytest.mark.parametrize("waits_for", first_of(WAITS))
def test_to_one_that_restarts(waits_for, first, tmp_path):
    begun = 0

    def begin():
        nonlocal begun
        begun += 1
        actor = Counter.options(max_restarts=-1, max_task_retries=-1).remote()
        assert ray.get(actor.add.remote(), timeout=LIMIT_S) == 1
        path = str(tmp_path / str(begun))
        return actor, [actor.die_once.remote(path), *[actor.add.remote() for _ in range(3)]]

    at_points(begin, [0, 1, 2, 3], WAITS[waits_for], first)
