"""Nodes join, are called back, and die: the director and what each node knows of the others."""

from __future__ import annotations

from typing import Any

import pytest

from ray.messages import cluster
from ray.messages.cluster import NodeRecord
from ray.runtime.cluster import director as directing
from ray.runtime.cluster.director import Director
from ray.runtime.cluster.members import Member, Members
from ray.runtime.process.timers import Timers


class Link:
    """A connection that keeps what is sent."""

    def __init__(self) -> None:
        self.context: Any = None
        self.closed = False

    def send(self, frames: Any) -> None:
        pass

    def abort(self) -> None:
        self.closed = True


class Dials:
    """A transport whose calls are never answered."""

    def __init__(self) -> None:
        self.exhausted = False

    def contacts(self, address: str) -> list[str]:
        return [address]

    def dial(self, address: str) -> Link:
        if self.exhausted:
            raise OSError(24, "Too many open files")
        return Link()


class Facts:
    def __init__(self) -> None:
        self.said: list[tuple[str, int]] = []

    def alive(self, record: NodeRecord) -> None:
        self.said.append(("alive", record.number))

    def dead(self, record: NodeRecord, cause: str) -> None:
        self.said.append(("dead", record.number))


class Client:
    job = ""

    def __init__(self, id: bytes) -> None:
        self.id = id
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


def record(number: int) -> NodeRecord:
    return NodeRecord(number, f"unix:/node/{number}", f"n{number}")


class Setting:
    """A director with its members, as it would apply its own rosters."""

    def __init__(self) -> None:
        self.transport = Dials()
        self.members = Members(self.transport, lambda: None, Timers())  # type: ignore[arg-type, return-value]
        self.facts = Facts()
        self.clients: list[Client] = []
        self.director = Director(record(1), self.members, self.facts, Timers(), lambda: self.clients, self.apply)

    def apply(self, roster: cluster.Roster) -> None:
        self.members.want(each for each in roster.alive if each.number != 1)

    def join(self, number: int) -> Client:
        client = Client(bytes(4))
        self.clients.append(client)
        self.director.join(client, cluster.Join(record(number)))
        return client

    def member(self, number: int) -> Member:
        return self.members.members[number.to_bytes(4, "big")]

    def answer(self, number: int) -> None:
        self.member(number).stands = True
        self.director.reached(self.member(number))


@pytest.fixture
def setting() -> Setting:
    return Setting()


def test_nodes_that_join_at_once_do_not_cut_each_other_off(setting: Setting) -> None:
    setting.join(2)
    setting.join(3)
    setting.answer(2)
    assert not setting.member(3).connection.closed  # type: ignore[attr-defined]
    setting.answer(3)
    assert setting.facts.said == [("alive", 1), ("alive", 2), ("alive", 3)]
    assert [each.number for each in setting.director.roster.alive()] == [1, 2, 3]


def test_a_node_that_cannot_be_called_back_is_refused(setting: Setting) -> None:
    client = setting.join(2)
    setting.director.lost(setting.member(2))
    (refused,) = [message for message in client.sent if isinstance(message, cluster.JoinRefused)]
    reason = "unix:/node/2 of this node cannot be reached from the director at unix:/node/1: the connection was refused"
    assert refused.reason.startswith(reason)
    setting.transport.exhausted = True
    client = setting.join(3)
    (refused,) = [message for message in client.sent if isinstance(message, cluster.JoinRefused)]
    assert "Too many open files" in refused.reason


def test_only_a_call_that_is_refused_proves_a_death(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    setting.join(2)
    setting.answer(2)
    again = Member(record(2), Link())  # type: ignore[arg-type]
    again.dialled -= directing.REFUSED_S + 0.1
    setting.director.lost(again)
    assert 2 in setting.director.roster.members
    setting.director.lost(Member(record(2), Link()))  # type: ignore[arg-type]
    assert 2 not in setting.director.roster.members
    assert setting.facts.said[-1] == ("dead", 2)


def test_a_node_that_has_missed_a_roster_is_told_with_its_next_beat(setting: Setting) -> None:
    setting.join(2)
    setting.answer(2)
    client = Client(b"")
    version = setting.director.roster.version
    setting.director.beat(client, 2, cluster.Beat(1, version))
    assert client.sent == [cluster.Heard(1)]
    setting.director.beat(client, 2, cluster.Beat(2, version - 1))
    assert [type(message) for message in client.sent[1:]] == [cluster.Heard, cluster.Roster]
    setting.director.leave(2, "")
    setting.director.beat(client, 2, cluster.Beat(3, version))
    assert isinstance(client.sent[-1], cluster.Roster)
    assert dict(client.sent[-1].dead) == {2: "it was stopped"}


def test_a_call_for_which_there_is_no_descriptor_is_made_later(setting: Setting) -> None:
    setting.transport.exhausted = True
    setting.members.want([record(2)])
    assert setting.members.members == {}
    setting.transport.exhausted = False
    setting.members._again((2).to_bytes(4, "big"))
    assert setting.member(2)
