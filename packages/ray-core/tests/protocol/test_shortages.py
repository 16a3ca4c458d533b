"""Which kinds of work claim, when, and at which nodes."""

from __future__ import annotations

import itertools

from ray.protocol.resources import UNIT
from ray.protocol.shortages import AGAIN_S, CLAIM_S, MOST_CLAIMS, Kind, Shortages

ONE: Kind = ("1", False, frozenset({("CPU", UNIT)}), None)
ACTOR: Kind = ("1", True, frozenset({("CPU", UNIT)}), None)
NODES = [bytes([number]) for number in range(1, 11)]


def test_a_kind_claims_when_it_has_been_short_for_a_while_and_again_after_as_long() -> None:
    made = Shortages()
    assert made.due([ONE], 1.0) == []
    assert made.due([ONE, ACTOR], 1.0 + CLAIM_S / 2) == []
    assert made.due([ONE, ACTOR], 1.0 + CLAIM_S) == [ONE]
    assert made.due([ONE, ACTOR], 1.0 + CLAIM_S) == []
    assert made.due([ONE, ACTOR], 1.0 + CLAIM_S * 1.5) == [ACTOR]
    assert made.due([ONE], 0.9 + CLAIM_S + AGAIN_S) == []
    assert made.due([ONE], 1.0 + CLAIM_S + AGAIN_S) == [ONE]


def test_what_is_short_no_more_is_forgotten() -> None:
    made = Shortages()
    made.due([ONE], 1.0)
    assert made
    assert made.due([], 1.1) == []
    assert not made
    assert made.due([ONE], 1.0 + CLAIM_S) == [], "it begins anew"


def test_nodes_have_their_turn_one_after_another() -> None:
    made = Shortages()
    made.due([ONE], 0.0)
    asked = [list(made.share(ONE, NODES, 100)) for _ in range(5)]
    assert all(len(turns) == MOST_CLAIMS for turns in asked)
    assert list(itertools.chain(*asked))[: 2 * len(NODES)] == NODES * 2


def test_what_is_missing_is_divided_among_those_that_are_asked() -> None:
    made = Shortages()
    assert made.share(ONE, NODES, 1) == {NODES[0]: 1}
    assert made.share(ONE, NODES, 3) == {NODES[1]: 1, NODES[2]: 1, NODES[3]: 1}
    assert set(made.share(ONE, NODES, 9).values()) == {3}
    assert made.share(ONE, NODES[:1], 9) == {NODES[0]: 9}
    assert made.share(ONE, [], 9) == {}
