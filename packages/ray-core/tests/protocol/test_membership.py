"""Who belongs to a cluster: the director's verdicts, and a node's own right to run."""

from __future__ import annotations

import random

import pytest

from ray.exceptions import ControlUnavailableError
from ray.messages.cluster import KeptDirector, KeptNode, NodeRecord
from ray.protocol.director import decode_node, encode
from ray.protocol.membership import (
    ALIVE,
    BEAT_S,
    DEAD,
    DEAD_S,
    EARLIER,
    JOINING,
    LATE_S,
    MAX_DEAD,
    QUIET_S,
    SELF_END_S,
    SUSPECT_S,
    Following,
    Proof,
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
    assert "there is a node of the name 'a' already: NodeID 00000001" in made.join(record(2, "a"), 0.0)
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
    assert made.tick(DEAD_S) == [2], "it is the director's to declare it dead"
    assert made.declare_dead(2, "it was not heard of")
    assert made.alive() == [record(1)]
    assert made.dead == {2: "it was not heard of"}
    assert not made.beat(2, DEAD_S)
    assert made.tick(DEAD_S) == []


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


@pytest.mark.parametrize(
    "seed", [*range(100), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(100, 300))]
)
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


# --- another director -------------------------------------------------------------------------------------------------


def test_a_director_takes_over_what_an_earlier_one_has_left() -> None:
    made = Roster()
    found = [KeptNode(record(4), ALIVE), KeptNode(record(2), DEAD, "why"), KeptNode(record(3), ALIVE)]
    assert made.recover(found, 5.0) == [record(2)]
    assert made.alive() == [record(3), record(4)]
    assert made.dead == {2: "why"}
    assert {member.heard for member in made.members.values()} == {5.0}
    assert "was given before" in made.join(record(2), 6.0)
    assert made.join(record(5), 6.0) == ""
    version = made.version
    made.recover([KeptNode(record(3), DEAD, "later")], 7.0)
    assert made.alive() == [record(4)]
    assert made.version > version
    assert made.members[4].heard == 7.0


def test_a_node_of_which_no_word_was_left_may_return() -> None:
    made = roster(EARLIER + 100)
    assert "was given before" in made.join(record(7), 1.0)
    assert made.join(record(7), 1.0, returns=True) == ""
    made.declare_dead(7, "why")
    assert "was given before" in made.join(record(7), 1.0, returns=True)


def test_the_director_of_the_highest_term_is_obeyed() -> None:
    following = Following(KeptDirector(record(1), 5))
    assert following.obeys(record(1), 5, 1)
    assert not following.obeys(record(1), 5, 0), "that is older"
    assert not following.found(KeptDirector(record(2), 5))
    assert following.found(KeptDirector(record(2), 6))
    assert (following.record, following.version) == (record(2), -1)
    assert not following.obeys(record(1), 5, 100), "its term is over"
    assert following.obeys(record(2), 6, 0)
    assert following.obeys(record(3), 7, 0), "nobody has said so before"
    assert following.record == record(3)


def test_a_node_shows_in_the_store_that_it_lives() -> None:
    proof, key = Proof("node:1"), encode(KeptNode(record(1), ALIVE, term=3))
    assert proof.ask(1.0) is not None
    assert proof.ask(1.5) is None, "one question is under way"
    assert proof.answered(key) is None
    assert proof.has_looked
    claim = proof.ask(2.0)
    assert claim is not None
    assert claim.old == key  # type: ignore[attr-defined]
    assert decode_node(claim.new) == KeptNode(record(1), ALIVE, term=3, proofs=1)  # type: ignore[attr-defined]
    assert proof.answered(True) == 2.0
    claim = proof.ask(3.0)
    assert decode_node(claim.new).proofs == 2  # type: ignore[union-attr]
    assert proof.answered(False) is None, "somebody else has written there"
    assert not proof.has_looked
    proof.ask(4.0)
    assert proof.answered(ControlUnavailableError("Get", "node:1", "why")) is None
    proof.ask(5.0)
    assert proof.answered(None) is None, "the store has lost it"
    proof.ask(6.0)
    assert proof.answered(encode(KeptNode(record(1), DEAD, "silence"))) is None
    assert (proof.is_dead, proof.verdict) == (True, "silence")
    assert proof.ask(7.0) is None


def test_what_the_store_has_taken_counts_as_an_answered_beat() -> None:
    standing = Standing(0.0)
    assert not standing.is_quiet(QUIET_S - 0.1)
    assert standing.is_quiet(QUIET_S)
    standing.shown(5.0)
    assert not standing.is_over(SELF_END_S + 4.9)
    standing.shown(1.0)
    assert standing.is_over(SELF_END_S + 5.0)


# --- interleavings ----------------------------------------------------------------------------------------------------


def test_beats_that_wait_for_the_retransmission_of_tcp() -> None:
    """A cut of 5 s: what is sent during it arrives after 6.8 s, all at once. Nobody dies of it."""
    made, standing = roster(1), Standing(0.0)
    made.tick(0.0)
    sent, now = [], 0.0
    while now < 6.5:
        now += BEAT_S
        sent.append(standing.beat(now))
        assert not standing.is_over(now)
        assert made.tick(now) == []
    for number in sent:
        assert made.beat(1, 6.8)
        standing.answered(number)
    assert standing.proven == 6.5
    assert made.tick(7.0) == []
    assert not standing.is_over(7.0)


def test_a_node_manager_that_stands_still_is_ended_before_another_takes_its_place() -> None:
    """What ends it counts from the sending of the last beat that it knows to be answered."""
    for delay_s in (0.0, 0.4, 3.0):
        made, standing = roster(1), Standing(0.0)
        made.tick(0.0)
        number = standing.beat(1.0)  # and then it stands still
        made.beat(1, 1.0 + delay_s)
        ended_at = standing.proven + SELF_END_S  # the answer was not read any more
        now = 1.0 + delay_s
        while not made.tick(now):
            now += BEAT_S
        assert now >= 1.0 + DEAD_S
        assert now > ended_at
        standing.answered(number)
        assert now > standing.proven + SELF_END_S, "if it was read"


def test_a_reset_of_a_connection_is_no_death() -> None:
    """A middlebox ends a connection: the node goes on to be heard over another one."""
    made = roster(1)
    made.tick(0.0)
    now = 0.0
    while now < 30.0:
        now += BEAT_S
        if now % 5 > 1.0:  # it takes a second to connect anew
            made.beat(1, now)
        assert made.tick(now) == []


def test_a_counter_that_falls_back_gives_no_number_twice() -> None:
    """An INCR that was acknowledged is lost in a failover, and the next node gets the same number."""
    made = roster(1, 2, 3)
    assert "its number, 3, was given before" in made.join(record(3), 1.0)
    made.declare_dead(3, "why")
    assert "its number, 3, was given before" in made.join(record(3), 1.0)


def test_a_counter_that_begins_anew_gives_no_number_of_the_past() -> None:
    """All data is lost between a joiner's look and its INCR: it is told that it is not one of them."""
    first = 1 << 29
    made = roster(first + 1, first + 2)
    assert "its number, 1, was given before" in made.join(record(1), 1.0)
