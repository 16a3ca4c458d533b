"""Jobs whose homes are several share what these have lent: they come to have as much, and then nothing moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from ray.testing.lending_world import SimulatedManager, World, time_of

QUIET_S = 30.0


@pytest.fixture
def begin() -> Iterator[Callable[..., World]]:
    """Makes a world of nodes with so many processors, in which nothing is lost."""
    with ExitStack() as stack:

        def make(*cpus: int) -> World:
            world = World(1, cpus)
            stack.enter_context(time_of(world.clock))
            world.most_delay_s, world.loss = 0.01, 0.0
            world.passes(5.0)
            return world

        yield make


def has(there: SimulatedManager) -> Counter[str]:
    return Counter(lease.job for lease in there.leases.leases.values())


@pytest.mark.parametrize("cpus", [(2, 2, 2), (2, 2, 8), (1, 1, 3), (2, 2, 2, 2), (4, 1, 5, 16)], ids=str)
def test_a_job_that_comes_later_gets_as_much(begin: Callable[..., World], cpus: tuple[int, ...]) -> None:
    world = begin(*cpus)
    first, second, *others = world.nodes.values()
    first.want(1, 99)
    world.passes(5.0)
    assert sum(has(first).values()) == first.cpus
    second.want(1, 99)
    world.passes(4.0)
    for there in others:
        assert has(there)[second.job_of(1)] >= 1, "soon"
    world.passes(QUIET_S)
    for there in others:
        one, other = (has(there)[here.job_of(1)] for here in (first, second))
        assert one + other == there.cpus
        assert abs(one - other) <= 1
    assert has(first) == {first.job_of(1): first.cpus}
    assert has(second) == {second.job_of(1): second.cpus}
    revoked = world.revoked
    world.passes(QUIET_S)
    assert world.revoked == revoked, "nothing goes to and fro"


def test_two_of_one_home_without_processors(begin: Callable[..., World]) -> None:
    world = begin(0, 4, 3)
    home, *others = world.nodes.values()
    home.want(1, 99)
    world.passes(5.0)
    home.want(2, 99)
    world.passes(QUIET_S)
    for there in others:
        assert sorted(has(there).values()) == [there.cpus // 2, there.cpus - there.cpus // 2]
    revoked = world.revoked
    world.passes(QUIET_S)
    assert world.revoked == revoked


def test_one_processor_for_two_jobs_that_have_nothing_else(begin: Callable[..., World]) -> None:
    """They take turns, of about a second."""
    world = begin(0, 1)
    home, there = world.nodes.values()
    home.want(1, 99)
    world.passes(5.0)
    home.want(2, 99)
    seen: Counter[str] = Counter()
    revoked = world.revoked
    for _ in range(600):
        world.passes(0.1)
        seen.update(has(there))
    assert min(seen.values()) > 150, seen
    assert 20 < world.revoked - revoked <= 120


def test_three_jobs_and_the_end_of_one(begin: Callable[..., World]) -> None:
    world = begin(1, 1, 1, 7)
    *homes, there = world.nodes.values()
    for home in homes:
        home.want(1, 99)
        world.passes(3.0)
    world.passes(QUIET_S)
    assert sorted(has(there).values()) == [2, 2, 3]
    homes[0].want(1, 0)
    for lease in list(homes[0].held):
        homes[0].give_back(lease)
    world.passes(QUIET_S)
    assert sorted(has(there).values()) == [3, 4]
