"""Orders of a home to directors, who come and go, and what its processes want to know of actors."""

from __future__ import annotations

from typing import Any

import pytest

from ray.ids import directed
from ray.messages import cluster, codec, node
from ray.runtime.cluster import orders as giving
from ray.runtime.cluster.orders import Orders
from ray.runtime.cluster.sealing import Seal
from ray.runtime.cluster.watching import ActorWatching
from ray.runtime.process.timers import Timers

ONE, TWO = b"one_", b"two_"
ACTOR = directed(ONE + bytes(12))
GONE = cluster.ProcessGone(b"process1")


class Member:
    def __init__(self, node: bytes, stands: bool = True, talk: object = None) -> None:
        self.node, self.stands, self.talk = node, stands, talk or object()
        self.title = f"the node {node.decode()}"
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


class Members:
    def __init__(self) -> None:
        self.members: dict[bytes, Member] = {}

    def send(self, node: bytes, message: Any) -> bool:
        member = self.members.get(node)
        if member is not None:
            member.send(message)
        return member is not None


class Home:
    """A home, and the directors that it knows of."""

    def __init__(self) -> None:
        self.director = ONE
        self.members = Members()
        self.timers = Timers()
        self.told: list[tuple[bytes, str]] = []
        self.heard: list[Any] = []
        self.orders = Orders(lambda: self.director, self.members, self, self.timers, 5.0)  # type: ignore[arg-type]
        self.watching = ActorWatching(self.members, self, lambda: self.director)  # type: ignore[arg-type]

    def adopt_at(self, node: bytes, job: str) -> None:
        self.told.append((node, job))

    def send_to(self, process: bytes, message: Any) -> bool:
        self.heard.append((process, message))
        return True

    def connect(self, number: bytes, talk: object = None) -> Member:
        """There is a connection to a director, or a new one; what was said before, in ``talk``, is not lost."""
        self.director = number
        member = self.members.members[number] = Member(number, talk=talk)
        self.orders.look()
        self.watching.look()
        return member

    def numbers(self, member: Member) -> list[int]:
        return [message.number for message in member.sent if isinstance(message, cluster.Order)]


def test_orders_wait_for_a_director_and_are_given_to_the_next_one_in_their_order() -> None:
    home = Home()
    answers: list[cluster.Ordered] = []
    for job in ("a", "b", "a"):
        home.orders.give(job, GONE, answers.append)
    one = home.connect(ONE)
    assert home.numbers(one) == [1, 2, 3]
    assert home.told == [(ONE, "a"), (ONE, "b")]
    home.orders.give("a", GONE, answers.append)
    assert home.numbers(one) == [1, 2, 3, 4]
    home.orders.answered(cluster.Ordered(2))
    del home.members.members[ONE]
    home.orders.give("a", GONE, answers.append)
    two = home.connect(TWO)
    assert home.numbers(two) == [1, 3, 4, 5]
    assert home.told[2:] == [(TWO, "a"), (TWO, "b")] or home.told[2:] == [(TWO, "b"), (TWO, "a")]
    home.orders.look()
    assert home.numbers(two) == [1, 3, 4, 5]
    for number in (5, 1, 1):
        home.orders.answered(cluster.Ordered(number))
    assert [answer.number for answer in answers] == [2, 5, 1]


def test_a_new_connection_to_the_same_director() -> None:
    home = Home()
    home.orders.give("a", GONE)
    one = home.connect(ONE)
    again = home.connect(ONE)
    assert home.numbers(one) == home.numbers(again) == [1]
    assert home.told == [(ONE, "a")] * 2


def test_what_goes_on_over_another_connection_is_not_said_twice() -> None:
    """An actor that a kill restarts would be killed twice."""
    home = Home()
    home.orders.give("a", GONE)
    one = home.connect(ONE)
    del home.members.members[ONE]
    home.orders.give("a", GONE)
    again = home.connect(ONE, one.talk)
    home.orders.give("a", GONE)
    assert (home.numbers(one), home.numbers(again)) == ([1], [2, 3])
    assert home.told == [(ONE, "a")]


def test_a_director_that_has_not_answered_its_call_is_told_nothing() -> None:
    home = Home()
    home.members.members[ONE] = Member(ONE, stands=False)
    home.orders.give("a", GONE)
    assert home.members.members[ONE].sent == []


def test_who_directs_orders_of_itself() -> None:
    home = Home()
    taken: list[cluster.Order] = []
    home.orders.take_here = taken.append
    home.orders.give("a", GONE)
    home.orders.look()
    assert [codec.decode([order.message]) for order in taken] == [GONE]
    assert home.told == []


def test_what_takes_too_long_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(giving, "monotonic", lambda: now[0])
    home = Home()
    answers: list[cluster.Ordered] = []
    undo = node.KillActor(0, ACTOR, True, "it was not created in time")
    home.orders.give("a", GONE, answers.append, undo)
    now[0] += 4.9
    home.orders._look_at_times()
    assert answers == []
    now[0] += 0.2
    home.orders._look_at_times()
    (answer,) = answers
    assert (answer.ok, answer.unavailable) == (False, True)
    assert answer.error == "the director of the cluster has not answered for 5.1 s"
    one = home.connect(ONE)
    assert [codec.decode([order.message]) for order in one.sent] == [undo]
    assert home.told == []  # the job may be over, and nobody would say so again


def test_a_director_that_dies_does_not_take_its_actors_along() -> None:
    """The next one is asked for what processes want to know; other actors die with their keepers."""
    home, client = Home(), Member(b"")
    client.id = b"process1"  # type: ignore[attr-defined]
    one = home.connect(ONE)
    other = ONE + bytes(12)
    for actor in (ACTOR, other):
        home.watching.watch(client, node.WatchActor(actor))  # type: ignore[arg-type]
    assert one.sent == [node.WatchActor(ACTOR), node.WatchActor(other)]
    home.watching.updated(one, node.ActorUpdate(ACTOR, "alive", 0))  # type: ignore[arg-type]
    home.heard.clear()
    del home.members.members[ONE]
    home.watching.node_down(one, "it died")  # type: ignore[arg-type]
    assert [(message.id, message.state) for _, message in home.heard] == [(other, "dead")]
    two = home.connect(TWO)
    assert two.sent == [node.WatchActor(ACTOR)]
    home.heard.clear()
    home.watching.updated(one, node.ActorUpdate(ACTOR, "dead", 0))  # type: ignore[arg-type]
    assert home.heard == []
    home.watching.updated(two, node.ActorUpdate(ACTOR, "dead", 0))  # type: ignore[arg-type]
    assert len(home.heard) == 1


def test_a_seal_is_of_one_key_of_one_session() -> None:
    seal = Seal(b"secret", "session")
    sealed = seal.seal("name:n", b"content")
    assert seal.open("name:n", sealed) == b"content"
    assert seal.open("name:m", sealed) is None
    assert seal.open("name:n", sealed[:-1] + b"!") is None
    assert seal.open("name:n", b"") is None
    assert Seal(b"secret", "other").open("name:n", sealed) is None
    assert Seal(b"guess", "session").open("name:n", sealed) is None
