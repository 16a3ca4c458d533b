"""Nodes join, are called back, and die: the director and what each node knows of the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ray.abc.control_operations import Get, Keys, Operation
from ray.builtin.embedded_state import EmbeddedState
from ray.ids import node_bytes
from ray.messages import cluster
from ray.messages.cluster import NodeRecord
from ray.protocol.director import decode_node
from ray.protocol.membership import ALIVE, DEAD, DEAD_S
from ray.runtime.cluster import director as directing
from ray.runtime.cluster.director import Director
from ray.runtime.cluster.members import Member, Members
from ray.runtime.cluster.office import Office
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


class State:
    """A control store, which can be cut off."""

    def __init__(self) -> None:
        self.now = 0.0
        self._state = EmbeddedState(lambda: self.now)
        self.is_there = True
        self.waiting: list[tuple[Operation[Any], Callable[[Any], object]]] = []

    def ask(self, op: Operation[Any], on_answer: Callable[[Any], object], *, timeout_s: float = 0.0) -> None:
        self.waiting.append((op, on_answer))

    def do(self, op: Operation[Any]) -> Any:
        return self._state.do(op)[0]

    def deliver(self) -> None:
        """Do all that was asked for, and what is asked for then."""
        while self.is_there and self.waiting:
            op, on_answer = self.waiting.pop(0)
            on_answer(self.do(op))

    def states(self) -> dict[int, str]:
        found = [decode_node(self.do(Get(key))) for key in self.do(Keys("node:"))]
        return {kept.record.number: kept.state for kept in found}


class Client:
    job = ""

    def __init__(self, id: bytes) -> None:
        self.id = id
        self.is_there = True
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)

    say = send


def record(number: int) -> NodeRecord:
    return NodeRecord(number, f"unix:/node/{number}", f"n{number}")


class Setting:
    """A director with its members, as it would apply its own rosters."""

    def __init__(self, state: State | None = None, number: int = 1, ended: int = 0) -> None:
        self.transport = Dials()
        self.members = Members(self.transport, lambda *talk: None, Timers())  # type: ignore[arg-type, return-value]
        self.state = state or State()
        self.clients: list[Client] = []
        self.terms = 0
        self.failed: list[str] = []
        self.office = Office(self.state, record(number), ended, Timers())  # type: ignore[arg-type]
        self.director = Director(
            record(number),
            ended,
            self.members,
            self.office,
            Timers(),
            lambda: self.clients,
            self.apply,
            self.begin_term,
        )
        self.is_ready = False
        self.director.begin(self.ready, self.failed.append)
        self.state.deliver()

    def begin_term(self) -> None:
        self.terms += 1

    def ready(self) -> None:
        self.is_ready = True

    def apply(self, roster: cluster.Roster) -> None:
        self.roster = roster
        self.members.want(each for each in roster.alive if each.number != self.director._own)

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
        self.state.deliver()


@pytest.fixture
def setting() -> Setting:
    return Setting()


def test_nodes_that_join_at_once_do_not_cut_each_other_off(setting: Setting) -> None:
    setting.join(2)
    setting.join(3)
    setting.answer(2)
    assert not setting.member(3).connection.closed  # type: ignore[attr-defined]
    setting.answer(3)
    assert setting.state.states() == {1: ALIVE, 2: ALIVE, 3: ALIVE}
    assert [each.number for each in setting.director.roster.alive()] == [1, 2, 3]


def test_a_node_that_cannot_be_called_back_is_refused(setting: Setting) -> None:
    client = setting.join(2)
    setting.director.lost(setting.member(2))
    (refused,) = [message for message in client.sent if isinstance(message, cluster.JoinRefused)]
    said = "unix:/node/2 of this node cannot be reached from the director at unix:/node/1: the connection was refused"
    assert said in refused.reason
    setting.transport.exhausted = True
    client = setting.join(3)
    (refused,) = [message for message in client.sent if isinstance(message, cluster.JoinRefused)]
    assert "Too many open files" in refused.reason


class Calls:
    """The data ports of nodes, which answer when the test says so."""

    def __init__(self) -> None:
        self.then: dict[bytes, Callable[[str], None]] = {}

    def begin(self, member: Member, then: Callable[[str], None]) -> None:
        self.then[member.node] = then

    def place_of(self, node: bytes) -> str:
        return "127.0.0.1:41000" if node in self.then else ""

    def give_up(self, node: bytes) -> None:
        self.then.pop(node, None)


@pytest.mark.parametrize("why", ["", "Connection refused"])
def test_a_node_is_called_back_at_its_data_port_as_well(setting: Setting, why: str) -> None:
    calls: Any = Calls()
    setting.director.data = calls
    client = setting.join(2)
    setting.answer(2)
    assert setting.state.states() == {1: ALIVE}
    (then,) = calls.then.values()
    then(why)
    setting.state.deliver()
    assert setting.state.states() == ({1: ALIVE} if why else {1: ALIVE, 2: ALIVE})
    refused = [message.reason for message in client.sent if isinstance(message, cluster.JoinRefused)]
    text = "127.0.0.1:41000 (data) of this node cannot be reached from the director at unix:/node/1: Connection refused"
    assert [reason.startswith(text) for reason in refused] == [True] * bool(why)
    assert all("--port-range" in reason for reason in refused)


def test_only_a_call_that_is_refused_proves_a_death(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    setting.join(2)
    setting.answer(2)
    again = Member(record(2), Link())  # type: ignore[arg-type]
    again.dialled -= directing.REFUSED_S + 0.1
    setting.director.lost(again)
    assert 2 in setting.director.roster.members
    setting.director.lost(Member(record(2), Link()))  # type: ignore[arg-type]
    assert 2 not in setting.director.roster.members
    setting.state.deliver()
    assert setting.state.states()[2] == DEAD
    assert [*setting.director.roster.dead] == [2]


def test_a_node_that_calls_is_not_dead_where_calls_to_it_are_refused(setting: Setting) -> None:
    """A firewall answers them. Once the node's own connection is lost as well, that is proof."""
    client = setting.join(2)
    client.id = node_bytes(2)
    setting.answer(2)
    setting.director.lost(Member(record(2), Link()))  # type: ignore[arg-type]
    assert 2 in setting.director.roster.members
    client.is_there = False
    setting.director.lost(Member(record(2), Link()))  # type: ignore[arg-type]
    assert 2 not in setting.director.roster.members


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


def test_a_node_is_one_of_them_once_that_is_written(setting: Setting) -> None:
    setting.state.is_there = False
    client = setting.join(2)
    setting.answer(2)
    assert client.sent == []
    setting.state.is_there = True
    setting.state.deliver()
    (roster,) = client.sent
    assert [each.number for each in roster.alive] == [1, 2]
    assert roster.term == setting.office.term > 0


def test_silence_is_death_once_it_is_written(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    client = setting.join(2)
    setting.answer(2)
    setting.state.is_there = False
    for _ in range(2):
        for member in setting.director.roster.members.values():
            member.heard -= DEAD_S
        setting.director._tick()
    assert 2 in setting.director.roster.members
    client.sent.clear()
    setting.director.beat(client, 2, cluster.Beat(1, setting.director.roster.version))
    assert client.sent == [], "it may not rely on being heard"
    setting.state.is_there = True
    setting.state.deliver()
    assert "not heard of for 9 s" in setting.director.roster.dead[2]
    assert setting.state.states()[2] == DEAD
    assert [*setting.director.roster.dead] == [2]
    assert isinstance(client.sent[-1], cluster.Roster)


def test_the_next_director_knows_the_nodes_of_the_one_before(setting: Setting) -> None:
    for number in (2, 3, 4):
        setting.join(number)
        setting.answer(number)
    setting.director.leave(4, "")
    setting.state.deliver()
    after = Setting(setting.state, 5, ended=1)
    assert after.is_ready
    assert [each.number for each in after.roster.alive] == [2, 3, 5]
    assert dict(after.roster.dead) == {1: "its node manager has ended", 4: "it was stopped"}
    assert after.roster.term > setting.office.term
    assert {each.number for each in after.director.gone} == {1, 4}
    assert after.state.states() == {1: DEAD, 2: ALIVE, 3: ALIVE, 4: DEAD, 5: ALIVE}
    client = Client(bytes(4))
    after.director.join(client, cluster.Join(record(2), setting.office.term))
    assert client.sent == [after.roster], "it is known, and not called back"
    after.director.beat(client, 3, cluster.Beat(1, after.roster.version))
    assert client.sent[1:] == [cluster.Heard(1)]


def test_a_node_of_which_the_store_has_lost_the_record_is_called_back(setting: Setting) -> None:
    client = Client(bytes(4))
    setting.clients.append(client)
    setting.director.join(client, cluster.Join(record(2), 1))
    setting.answer(2)
    assert [each.number for each in setting.roster.alive] == [1, 2]


def test_it_does_not_direct_while_another_one_lives(setting: Setting) -> None:
    other = Setting(setting.state, 2)
    assert not other.is_ready
    client = other.join(3)
    assert client.sent == []
    assert other.office.other is not None
    assert other.office.other.record == record(1)


def test_one_that_has_stood_still_decides_nothing_before_it_has_asked(setting: Setting) -> None:
    client = setting.join(2)
    setting.answer(2)
    client.sent.clear()
    setting.director.awake(setting.director._turned + 0.6)
    setting.director.beat(client, 2, cluster.Beat(1, setting.director.roster.version))
    assert client.sent == [cluster.Heard(1)]
    setting.director.awake(setting.director._turned + 2.0)
    setting.director.declare_dead(2, "why")
    setting.director.beat(client, 2, cluster.Beat(2, setting.director.roster.version))
    assert client.sent == [cluster.Heard(1)]
    assert 2 in setting.director.roster.members
    setting.state.deliver()
    setting.director.beat(client, 2, cluster.Beat(3, setting.director.roster.version))
    assert client.sent[-1] == cluster.Heard(3)


def test_one_that_was_replaced_fails(setting: Setting) -> None:
    Setting(setting.state, 2, ended=1)
    setting.director.awake(setting.director._turned + 5.0)
    setting.state.deliver()
    setting.director._tick()
    assert setting.failed == ["node 2 directs the cluster instead of this one"]
