"""Who belongs to a cluster: the director's verdicts, and a node's own right to run."""

from __future__ import annotations

import random

import pytest

from ray.messages.cluster import NodeRecord
from ray.protocol.membership import (
    ALIVE,
    BEAT_S,
    DEAD_S,
    EARLIER,
    JOINING,
    LATE_S,
    MAX_DEAD,
    SELF_END_S,
    SUSPECT_S,
    Roster,
    Standing,
)


def record(number: int, name: str = "") -> NodeRecord:
    return NodeRecord(number, f"unix:/node/{number}", name)


def roster(*numbers: int) -> Roster:
    made = Roster()
    for number in numbers:
        assert made.join(record(number), 0.0) == ""
        made.admit(number, 0.0)
    return made


def test_a_node_is_alive_once_it_was_reached() -> None:
    made = Roster()
    assert made.join(record(1), 0.0) == ""
    assert (made.members[1].state, made.alive(), made.version) == (JOINING, [], 0)
    made.admit(1, 0.5)
    assert (made.members[1].state, made.alive(), made.version) == (ALIVE, [record(1)], 1)
    made.admit(1, 0.6)
    assert made.version == 1


def test_a_number_is_given_once() -> None:
    made = roster(1, 5)
    for number in (5, 1):
        assert f"its number, {number}, was given before" in made.join(record(number), 1.0)
    assert made.join(record(4), 1.0) == "", "of two that join at once, either may come first"
    made.declare_dead(5, "why")
    assert "was given before" in made.join(record(5), 2.0)
    assert not made.beat(5, 2.0)
    assert made.join(record(EARLIER + 10), 2.0) == ""
    assert "was given before" in made.join(record(9), 2.0), "that is too long ago to be known"
    assert made.join(record(11), 2.0) == ""


def test_a_name_is_of_one_living_node() -> None:
    made = Roster()
    made.join(record(1, "a"), 0.0)
    assert "there is a node of the name 'a' already: number 1" in made.join(record(2, "a"), 0.0)
    made.declare_dead(1, "why")
    assert made.join(record(3, "a"), 0.0) == ""


def test_silence_is_death_and_only_after_so_long() -> None:
    made = roster(1, 2)
    now = 0.0
    while now < DEAD_S - BEAT_S:
        now += BEAT_S
        assert made.beat(1, now)
        assert made.tick(now) == []
    assert made.suspected(now) == [2]
    assert made.suspected(SUSPECT_S - 0.1) == []
    made.beat(1, DEAD_S)
    assert made.tick(DEAD_S) == [2]
    assert made.alive() == [record(1)]
    assert "not heard of for 9 s" in made.dead[2]
    assert not made.beat(2, DEAD_S)


def test_a_director_that_was_late_itself_knows_nothing_of_the_silence_of_others() -> None:
    made = roster(1)
    made.tick(0.0)
    assert made.tick(60.0) == []
    assert made.tick(60.0 + LATE_S) == []
    now = 60.0
    while now < 60.0 + DEAD_S - 2 * BEAT_S:
        now += BEAT_S
        assert made.tick(now) == []
    assert made.tick(60.0 + DEAD_S + BEAT_S) == [1]


def test_the_dead_are_remembered_up_to_a_number() -> None:
    made = Roster()
    for number in range(1, MAX_DEAD + 10):
        made.join(record(number), 0.0)
        assert made.declare_dead(number, "why")
        assert not made.declare_dead(number, "again")
    assert len(made.dead) == MAX_DEAD
    assert 1 not in made.dead


def test_the_right_to_run_counts_from_the_sending_of_what_was_answered() -> None:
    standing = Standing(0.0)
    first, second = standing.beat(1.0), standing.beat(2.0)
    assert not standing.is_over(SELF_END_S - 0.1)
    assert standing.is_over(SELF_END_S)
    standing.answered(second)
    assert standing.proven == 2.0
    standing.answered(first)
    assert standing.proven == 2.0
    assert not standing.is_over(SELF_END_S + 1.9)
    assert standing.is_over(SELF_END_S + 2.0)


@pytest.mark.parametrize("seed", range(300))
def test_a_node_ends_before_it_is_declared_dead(seed: int) -> None:
    """Whatever the delays are, and whatever is lost, in either direction; both look at their clocks in time."""
    rng = random.Random(seed)
    made, standing = roster(1), Standing(0.0)
    under_way: list[tuple[float, str, int]] = []
    now, next_beat, ended = 0.0, 0.0, None
    loss = rng.choice([0.0, 0.3, 0.9, 1.0])
    made.tick(0.0)
    while now < 60.0:
        now = round(now + 0.05, 2)
        for each in sorted(under_way):
            at, what, number = each
            if at <= now:
                under_way.remove(each)
                if what == "beat":
                    if made.beat(1, now) and rng.random() >= loss:
                        under_way.append((now + rng.choice([0.01, 0.5, 3.0]), "answer", number))
                elif ended is None:
                    standing.answered(number)
        if ended is None:
            if standing.is_over(now):
                ended = now
            elif now >= next_beat:
                next_beat = now + BEAT_S
                number = standing.beat(now)
                if rng.random() >= loss:
                    under_way.append((now + rng.choice([0.01, 0.5, 3.0]), "beat", number))
        if round(now * 20) % 10 == 0 and made.tick(now):
            assert ended is not None
            assert ended < now
            return
