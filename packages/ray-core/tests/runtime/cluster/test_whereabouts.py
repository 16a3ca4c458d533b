"""Who is asked where a process can be reached from other nodes, and what is answered when somebody ends meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from ray.ids import node_bytes
from ray.messages import finding, node
from ray.messages.cluster import NodeRecord
from ray.runtime.cluster.whereabouts import Whereabouts


class Process:
    job = ""

    def __init__(self, id: bytes, address: str = "", far_address: str = "") -> None:
        self.id = id
        self.address = address
        self.far_address = far_address
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


class Members:
    """Nodes 2 and 3 are connected, and 4 is about to be."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []

    def send(self, target: bytes, message: Any) -> bool:
        self.sent.append((target, message))
        return target in (node_bytes(2), node_bytes(3))

    def is_there(self, target: bytes) -> bool:
        return target in (node_bytes(2), node_bytes(3), node_bytes(4))


class Other:
    def __init__(self, number: int) -> None:
        self.sent: list[Any] = []
        self.send = self.sent.append
        self.record = NodeRecord(number, f"address{number}", f"n{number}")
        self.node = node_bytes(number)
        self.title = f"n{number} (address{number})"


@pytest.fixture
def members() -> Members:
    return Members()


@pytest.fixture
def here() -> list[Process]:
    return [Process(b"a", "near:a"), Process(b"b", "near:b", "near:b|far:b")]


@pytest.fixture
def whereabouts(members: Members, here: list[Process]) -> Whereabouts:
    return Whereabouts(node_bytes(1), members, lambda: here)  # type: ignore[arg-type]


def test_a_process_of_another_node(whereabouts, members, here):
    asker = here[0]
    whereabouts.ask(asker, finding.Where(7, 2, "x"))
    whereabouts.ask(asker, finding.Where(8, 3, "y"))
    assert members.sent == [(node_bytes(2), finding.Seek(1, "x")), (node_bytes(3), finding.Seek(2, "y"))]
    whereabouts.found(Other(3), finding.Found(1, "of a node that was not asked"))
    assert asker.sent == []
    whereabouts.found(Other(2), finding.Found(1, "x|far"))
    whereabouts.found(Other(2), finding.Found(1, "again"))
    whereabouts.found(Other(3), finding.Found(2, "", "that process has ended"))
    assert asker.sent == [node.Answer(7, True, b"x|far"), node.Answer(8, False, b"", "that process has ended")]


def test_a_node_that_is_not_there_or_goes(whereabouts, here):
    asker = here[0]
    whereabouts.ask(asker, finding.Where(7, 9, "x"))
    assert asker.sent.pop() == node.Answer(7, False, b"", "its node is not there")
    whereabouts.ask(asker, finding.Where(8, 2, "x"))
    whereabouts.ask(asker, finding.Where(9, 3, "x"))
    whereabouts.node_down(Other(2), "why")
    assert asker.sent == [node.Answer(8, False, b"", "n2 (address2) died: why")]


def test_a_node_with_which_what_was_said_was_lost_is_asked_again(whereabouts, here):
    asker, other = here[0], Other(4)
    whereabouts.ask(asker, finding.Where(7, 4, "x"))
    whereabouts.ask_life(asker, finding.Lives(8, node_bytes(4) + b"proc"))
    whereabouts.ask(asker, finding.Where(9, 3, "x"))
    assert asker.sent == []
    whereabouts.ask_again(other)
    assert other.sent == [finding.Seek(1, "x"), finding.SeekLife(2, node_bytes(4) + b"proc")]
    whereabouts.found_life(other, finding.FoundLife(2, True))
    assert asker.sent == [node.Answer(8, True, b"it lives")]


def test_an_asker_that_ends_hears_nothing(whereabouts, here):
    asker = here[0]
    whereabouts.ask(asker, finding.Where(7, 2, "x"))
    whereabouts.process_lost(b"a")
    whereabouts.found(Other(2), finding.Found(1, "x|far"))
    assert asker.sent == []


def test_a_process_of_this_node_listens_once_for_all(whereabouts, here):
    home, other = Process(b"home"), Process(b"other")
    whereabouts.sought(home, finding.Seek(1, "near:b"))
    assert home.sent.pop() == finding.Found(1, "near:b|far:b")
    whereabouts.sought(home, finding.Seek(2, "near:nobody"))
    assert home.sent.pop() == finding.Found(2, "", "that process has ended")
    whereabouts.sought(home, finding.Seek(3, "near:a"))
    whereabouts.sought(other, finding.Seek(1, "near:a"))
    assert here[0].sent == [finding.ListenFar()]
    whereabouts.listens(here[0], finding.Listens("near:a|far:a"))
    assert home.sent == [finding.Found(3, "near:a|far:a")]
    assert other.sent == [finding.Found(1, "near:a|far:a")]
    whereabouts.sought(home, finding.Seek(4, "near:a"))
    assert home.sent[1:] == [finding.Found(4, "near:a|far:a")]
    assert here[0].sent == [finding.ListenFar()]


def test_a_driver_elsewhere_asks_its_home_for_a_process_of_that(whereabouts, members, here):
    whereabouts.ask(here[1], finding.Where(7, 1, "near:a"))
    whereabouts.ask(here[1], finding.Where(8, 1, "near:nobody"))
    assert here[1].sent.pop() == node.Answer(8, False, b"", "that process has ended")
    whereabouts.listens(here[0], finding.Listens("near:a|far:a"))
    assert here[1].sent == [node.Answer(7, True, b"near:a|far:a")]
    assert members.sent == []


def test_a_process_that_cannot_listen_is_asked_again(whereabouts, here):
    home = Process(b"home")
    for number in (1, 2):
        whereabouts.sought(home, finding.Seek(number, "near:a"))
        whereabouts.listens(here[0], finding.Listens("", "no port is free"))
    assert home.sent == [finding.Found(1, "", "no port is free"), finding.Found(2, "", "no port is free")]
    assert here[0].sent == [finding.ListenFar(), finding.ListenFar()]


def test_a_process_that_ends_while_it_is_asked(whereabouts, here):
    home = Process(b"home")
    whereabouts.sought(home, finding.Seek(1, "near:a"))
    whereabouts.process_lost(b"a")
    assert home.sent == [finding.Found(1, "", "that process has ended")]
