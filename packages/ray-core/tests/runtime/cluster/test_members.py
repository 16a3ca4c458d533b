"""Connections to other node managers: what becomes of one with which what was said is lost."""

from __future__ import annotations

from typing import Any

from tests.owners import Clock

from ray.ids import node_bytes
from ray.messages import codec, wire
from ray.messages.cluster import NodeRecord
from ray.protocol.membership import BEAT_S
from ray.runtime.cluster.members import Member, Members

RECORD = NodeRecord(2, "there")


class Line:
    """A connection that keeps what is sent."""

    context: Any = None
    closed = False

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, frames: Any) -> None:
        self.sent.append(frames)

    def abort(self) -> None:
        self.closed = True


class Setting:
    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.has_descriptors = True
        self.clock = Clock()
        here: Any = self
        self.members = Members(here, lambda talk, again: wire.Hello(2, "s", "node", b"", "", 0, talk=talk), here)
        self.members.want([RECORD])
        (self.member,) = self.members.members.values()

    def dial(self, address: str) -> Line:
        if not self.has_descriptors:
            raise ConnectionError("no descriptor is free")
        self.lines.append(Line())
        return self.lines[-1]

    def after(self, delay_s: float, callback: Any) -> None:
        self.clock.after(delay_s, callback)

    def forgets(self) -> None:
        """The other end does not go on."""
        lost: list[Member] = []
        self.members.handlers(lost.append)[wire.Forgotten](self.member, wire.Forgotten())
        assert lost == [self.member]
        self.members.lost(self.member)


def test_what_is_said_begins_anew() -> None:
    setting = Setting()
    setting.forgets()
    assert not setting.members.send(setting.member.node, wire.Forgotten())
    assert setting.members.is_there(setting.member.node)
    setting.clock.passes(BEAT_S)
    (member,) = setting.members.members.values()
    assert member.talk is not setting.member.talk
    assert setting.members.send(member.node, wire.Forgotten())
    assert [line.closed for line in setting.lines] == [True, False]


def test_a_node_that_dies_before_what_is_said_has_begun_anew_is_told_of() -> None:
    """Else what it has lent, and what it was asked, would be waited for."""
    setting = Setting()
    setting.forgets()
    assert setting.members.want([]) == [setting.member]
    setting.clock.passes(BEAT_S)
    assert setting.members.members == {}
    assert not setting.members.is_there(setting.member.node)


def test_what_is_said_to_a_node_that_cannot_be_dialled_yet_waits_for_that() -> None:
    """Nobody may be told that it is dead, or wait for an answer without an end."""
    setting, newer = Setting(), NodeRecord(3, "newer")
    number = node_bytes(newer.number)
    setting.has_descriptors = False
    setting.members.want([RECORD, newer])
    assert setting.members.send(number, wire.Forgotten())
    assert number not in setting.members.members
    setting.has_descriptors = True
    setting.clock.passes(BEAT_S)
    member = setting.members.members[number]
    assert setting.members.resumed(member, wire.GoesOn(0))
    (_, (said,)) = setting.lines[-1].sent
    assert said.endswith(codec.encode(wire.Forgotten()))


def test_a_node_that_dies_before_it_could_be_dialled_is_told_of() -> None:
    setting, newer = Setting(), NodeRecord(3, "newer")
    setting.has_descriptors = False
    setting.members.want([RECORD, newer])
    assert [member.record for member in setting.members.want([RECORD])] == [newer]
    setting.has_descriptors = True
    setting.clock.passes(BEAT_S)
    assert setting.members.members.keys() == {setting.member.node}
