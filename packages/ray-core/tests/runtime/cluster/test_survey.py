"""What waits on all nodes: each is asked once, and one that says nothing is not waited for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ray.messages import cluster
from ray.messages.cluster import DemandRow
from ray.runtime.cluster.survey import PATIENCE_S, Survey
from ray.testing.virtual_time import VirtualClock


def row(home: str) -> DemandRow:
    return DemandRow(home, "00000001", "f", {"CPU": 1}, 1, "what it needs is in use")


class Made:
    """The part, and two other nodes of which one has not answered any call yet."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.sent: list[tuple[bytes, Any]] = []
        self.answers: list[list[DemandRow]] = []
        self.members = {node: self.member(node) for node in (b"2", b"3", b"4")}
        self.members[b"4"].stands = False
        others = SimpleNamespace(members=self.members)
        self.part = Survey(others, self, lambda: [row("1")])  # type: ignore[arg-type]

    def member(self, node: bytes) -> Any:
        return SimpleNamespace(node=node, stands=True, send=lambda message: self.sent.append((node, message)))

    def after(self, delay_s: float, callback: Any) -> None:
        self.clock.after(delay_s, callback)

    def ask(self) -> int:
        self.part.ask(self.answers.append)
        return int(self.sent[-1][1].number)

    def hear(self, node: bytes, number: int) -> None:
        self.part.heard(self.members[node], cluster.Demands(number, [row(node.decode())]))


@pytest.fixture
def made() -> Made:
    return Made()


def test_all_nodes_are_asked(made: Made) -> None:
    number = made.ask()
    assert made.sent == [(node, cluster.AskDemands(number)) for node in (b"2", b"3")]
    made.hear(b"3", number)
    assert made.answers == []
    made.hear(b"3", number)
    made.hear(b"4", number)  # it was not asked
    assert made.answers == []
    made.hear(b"2", number)
    assert made.answers == [[row("1"), row("3"), row("2")]]
    made.hear(b"2", number)
    made.clock.run(10 * PATIENCE_S)
    assert len(made.answers) == 1


def test_one_that_says_nothing_is_left_out(made: Made) -> None:
    first, second = made.ask(), made.ask()
    assert first != second
    made.hear(b"2", second)
    made.clock.run(PATIENCE_S / 2)
    assert made.answers == []
    made.clock.run(2 * PATIENCE_S)
    assert made.answers == [[row("1")], [row("1"), row("2")]]


def test_a_node_among_no_others(made: Made) -> None:
    made.members.clear()
    made.part.ask(made.answers.append)
    assert made.answers == [[row("1")]]


def test_others_are_told(made: Made) -> None:
    made.part.tell(made.member(b"5"), cluster.AskDemands(7))
    assert made.sent == [(b"5", cluster.Demands(7, [row("1")]))]
