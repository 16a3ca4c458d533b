"""A node that loses its director looks for another one, shows meanwhile that it lives, and ends where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ray.abc.control_operations import Get, Operation, Put
from ray.builtin.embedded_state import EmbeddedState
from ray.messages import cluster, codec, wire
from ray.messages.cluster import KeptDirector, KeptNode, NodeRecord
from ray.protocol.director import DIRECTOR, decode_node, encode, node_key
from ray.protocol.membership import ALIVE, DEAD, QUIET_S, SELF_END_S
from ray.runtime.cluster import belonging as belonging_module
from ray.runtime.cluster import lookout as lookout_module
from ray.runtime.cluster.belonging import Belonging
from ray.runtime.cluster.members import Member, Members
from ray.runtime.process.kept_connection import opened
from ray.runtime.process.timers import Timers


def record(number: int) -> NodeRecord:
    return NodeRecord(number, f"unix:/node/{number}", f"n{number}")


class Link:
    """A connection that keeps what is sent."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.context: Any = None
        self.sent: list[Any] = []

    def send(self, frames: Any) -> None:
        self.sent.append(codec.decode(opened(frames)[1]))

    def abort(self) -> None:
        pass


class Dials:
    def __init__(self) -> None:
        self.made: list[Link] = []

    def dial(self, address: str) -> Link:
        self.made.append(Link(address))
        return self.made[-1]

    def contacts(self, address: str) -> list[str]:
        return [address]


class Store:
    """A control store that answers at once, or not at all."""

    def __init__(self) -> None:
        self._state = EmbeddedState(lambda: 0.0)
        self.is_there = True
        self.asked = 0

    def ask(self, op: Operation[Any], on_answer: Callable[[Any], object], *, timeout_s: float = 0.0) -> None:
        self.asked += 1
        if self.is_there:
            on_answer(self.do(op))

    def do(self, op: Operation[Any]) -> Any:
        return self._state.do(op)[0]


class Node:
    """Number 2, whose director is number 1, for term 5."""

    def __init__(self) -> None:
        self.now = 100.0
        self.dials, self.store = Dials(), Store()
        self.members = Members(self.dials, lambda *talk: cluster.Beat(0), Timers())  # type: ignore[arg-type, return-value]
        self.failures: list[str] = []
        self.renewals: list[float] = []
        self.is_in = False
        self.put(KeptDirector(record(1), 5))
        self.store.do(Put(node_key(2), encode(KeptNode(record(2), ALIVE, term=5))))
        self.belonging = Belonging(
            record(2),
            KeptDirector(record(1), 5),
            self.members,
            self.store,  # type: ignore[arg-type]
            Timers(),
            self,
        )

    def put(self, kept: KeptDirector) -> None:
        self.store.do(Put(DIRECTOR, encode(kept)))

    # --- as ``Life`` --------------------------------------------------------------------------------------------------

    def joined(self) -> None:
        self.is_in = True

    def failed(self, reason: str) -> None:
        self.failures.append(reason)

    def renewed(self, sent: float) -> None:
        self.renewals.append(sent)

    # --- what others do -----------------------------------------------------------------------------------------------

    def reach(self, number: int) -> Member:
        member = self.members.members[number.to_bytes(4, "big")]
        member.stands = True
        self.members.resumed(member, wire.GoesOn(0))  # where it was called again
        self.belonging.reached(member)
        return member

    def lose(self, number: int) -> None:
        member = self.members.members[number.to_bytes(4, "big")]
        assert self.members.lost(member)
        self.belonging.lost(member)

    def tell(self, director: int, term: int, version: int, *alive: int, dead: int = 0) -> dict[int, str] | None:
        roster = cluster.Roster(version, [record(number) for number in alive], [(dead, "why")] if dead else [], term)
        return self.belonging.take(record(director), roster)

    def joins(self) -> list[cluster.Join]:
        return [said for link in self.dials.made for said in link.sent if isinstance(said, cluster.Join)]


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    made: list[Node] = []
    for module in (belonging_module, lookout_module):
        monkeypatch.setattr(module, "boottime", lambda: made[0].now if made else 100.0)
    made.append(Node())
    return made[0]


@pytest.fixture
def joined(node: Node) -> Node:
    node.belonging.begin()
    node.reach(1)
    node.tell(1, 5, 1, 1, 2, 3)
    assert node.is_in
    node.members.want(node.belonging.others)
    return node


def test_it_asks_to_be_let_in(node: Node) -> None:
    node.belonging.begin()
    node.reach(1)
    assert node.joins() == [cluster.Join(record(2))]
    assert node.tell(1, 5, 1, 1) == {}
    assert not node.is_in
    node.now += 3.0
    node.store.is_there = False
    node.tell(1, 5, 2, 1, 2)
    assert node.is_in
    node.now = 100.0 + SELF_END_S - 0.1
    assert node.belonging.awake()
    node.now = 100.0 + SELF_END_S
    assert not node.belonging.awake(), "what it has asked first is what is known to be heard"
    assert "this machine was cut off from the cluster for 7.0 s" in node.failures[0]


def test_a_director_that_is_lost_is_looked_for_and_not_called_in_a_circle(joined: Node) -> None:
    calls, asked = len(joined.dials.made), joined.store.asked
    joined.lose(1)
    assert len(joined.dials.made) == calls, "it is called with the next beat"
    assert joined.store.asked == asked + 1
    joined.put(KeptDirector(record(9), 6))
    joined.belonging.admit((9).to_bytes(4, "big"))
    assert joined.dials.made[-1].address == "unix:/node/9"
    joined.reach(9)
    assert joined.joins()[-1] == cluster.Join(record(2), 6), "under its own number"
    assert joined.tell(9, 6, 1, 2, 3, 9, dead=1) == {1: "why"}
    assert [each.number for each in joined.belonging.others] == [3, 9]
    assert [each.number for each in joined.belonging.gone] == [1]
    assert joined.failures == []


def test_beats_are_not_confirmed_nor_said_again(joined: Node) -> None:
    member = joined.members.members[(1).to_bytes(4, "big")]
    link, kept = joined.dials.made[0], dict(member.talk.conversation.kept)
    joined.belonging._beat()
    assert link.sent[-1] == cluster.Beat(2, 1), "the first was sent when it was let in"
    assert member.talk.conversation.kept == kept, "nothing waits for the director to say that it has come"
    joined.lose(1)
    said = len(link.sent)
    joined.belonging._beat()
    assert len(link.sent) == said
    joined.now += QUIET_S
    joined.belonging._beat()  # calls it
    again = joined.dials.made[-1]
    joined.reach(1)
    assert [each for each in again.sent[1:] if isinstance(each, cluster.Beat)] == [], "the first is its hello here"
    joined.belonging._beat()
    assert again.sent[-1] == cluster.Beat(5, 1)


def test_orders_of_a_lower_term_are_refused(joined: Node) -> None:
    joined.tell(3, 6, 1, 1, 2, 3)
    assert joined.tell(1, 5, 100, 1, 3, dead=2) is None
    assert joined.failures == []
    assert [each.number for each in joined.belonging.others] == [1, 3]
    joined.belonging.heard(joined.members.members[(1).to_bytes(4, "big")], 1)
    assert joined.renewals == [], "nor may it rely on being heard there"


def test_one_of_which_the_director_does_not_know_says_so_again(joined: Node) -> None:
    before = len(joined.joins())
    joined.tell(1, 5, 2, 1, 3)
    assert joined.joins()[before:] == [cluster.Join(record(2), 5)]


def test_it_shows_in_the_store_that_it_lives(joined: Node) -> None:
    joined.lose(1)
    for _ in range(20):
        joined.now += QUIET_S
        assert joined.belonging.awake()
        joined.belonging._beat()
    assert joined.renewals[-1] == joined.now
    assert decode_node(joined.store.do(Get(node_key(2)))).proofs == 20
    calls = len(joined.dials.made)
    joined.belonging._beat()
    assert len(joined.dials.made) <= calls + 1
    joined.store.is_there = False
    joined.now += SELF_END_S
    assert not joined.belonging.awake()


def test_it_ends_where_the_store_has_it_that_it_is_dead(joined: Node) -> None:
    joined.store.do(Put(node_key(2), encode(KeptNode(record(2), DEAD, "silence", 6))))
    joined.now += QUIET_S
    joined.belonging._beat()
    assert joined.failures == [
        f"this machine was cut off from the cluster for {QUIET_S} s and was declared dead: silence"
    ]


def test_a_verdict_says_for_how_long_it_was_cut_off(joined: Node) -> None:
    joined.now += 6.5
    joined.tell(1, 5, 2, 1, 3, dead=2)
    assert joined.failures == ["this machine was cut off from the cluster for 6.5 s and was declared dead: why"]


def test_it_ends_when_the_head_is_stopped_and_says_so(joined: Node) -> None:
    joined.belonging.over(Member(record(3), Link("unix:/node/3")))  # type: ignore[arg-type]
    assert joined.failures == [], "that one does not direct"
    joined.belonging.over(Member(record(1), Link("unix:/node/1")))  # type: ignore[arg-type]
    assert joined.failures == ["the cluster was stopped where its head is"]


def test_one_that_is_not_in_calls_whoever_directs(node: Node) -> None:
    node.belonging.begin()
    node.lose(1)
    node.put(KeptDirector(record(9), 6))
    node.belonging._seek()
    node.reach(9)
    assert node.joins() == [cluster.Join(record(2))]


def test_one_that_cannot_reach_the_director_ends_soon(node: Node) -> None:
    node.belonging.begin()
    for _ in range(10):
        if (1).to_bytes(4, "big") in node.members.members:
            node.lose(1)
        node.now += 0.5
        node.belonging._seek()
    assert node.failures[0] == "the director at unix:/node/1 cannot be reached from this node"
