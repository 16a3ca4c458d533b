"""The part of a node manager that has to do with values in stores; the object manager and other nodes are the test."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tests.owners import Clock

from ray.clock import monotonic
from ray.exceptions import RemoteProtocolError
from ray.messages import node, objects
from ray.protocol import pulls
from ray.runtime.node import objects as module
from ray.runtime.node.objects import NodeObjects
from ray.runtime.object_manager import orders
from ray.runtime.object_manager.tickets import Door

OWN, OTHER = b"\0\0\0\1", b"\0\0\0\2"
MANAGER, OTHER_MANAGER = OWN + bytes(4), OTHER + bytes(4)
ASKER = OWN + b"\0\0\0\7"
KEY, NBYTES = OTHER + b"p" * 16, 5000


class Client:
    def __init__(self, id: bytes, kind: str) -> None:
        self.id, self.kind = id, kind
        self.said: list[Any] = []

    def send(self, message: Any) -> None:
        self.said.append(message)


class World:
    """One node. What it watches is read when the test says so."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.clock, self.watched = Clock(), dict[int, Any]()
        self.member = SimpleNamespace(node=OTHER, send=lambda message: self.sent.append(message))
        members = {OTHER: self.member}
        self.members = SimpleNamespace(members=members, send=self.send, tell_all=self.member.send)
        self.sent: list[Any] = []
        self.answers: list[tuple[bytes, node.Answer]] = []
        self.lost: list[bytes] = []
        self.stops: list[int] = []
        self.failed: list[str] = []
        self.ends: list[socket.socket] = []
        self.asker, self.other = Client(ASKER, "worker"), Client(OTHER_MANAGER, "node")
        node_manager = SimpleNamespace(
            title="second (NodeID 00000002)",
            send_to=lambda process, message: self.answers.append((process, message)),
            owner_lost=self.lost.append,
            expect_stop=self.stops.append,
            fail=self.failed.append,
        )
        transport = SimpleNamespace(watch=self.watched.__setitem__, unwatch=self.watched.pop)
        parts: Any = (node_manager, self.members, transport, self.clock, pulls.PullTable(1 << 20), self.start)
        self.objects = NodeObjects(MANAGER, Door(host, sealed=True), *parts)
        self.handlers = self.objects.handlers()

    def send(self, at: bytes, message: Any) -> bool:
        if at in self.members.members:
            self.sent.append(message)
        return at in self.members.members

    def start(self) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        self.ends.append(theirs)
        return len(self.ends), ours

    def hears(self, client: Client, message: Any) -> None:
        self.handlers[type(message)](client, message, ())  # type: ignore[arg-type]

    def reports(self, report: orders.Report) -> None:
        self.ends[-1].send(orders.encode(report))
        self.read()

    def read(self) -> None:
        for callback in list(self.watched.values()):
            callback()

    def dies(self) -> None:
        self.ends[-1].close()
        self.read()

    def orders(self) -> list[Any]:
        """What the object manager was told since the last time."""
        found = []
        while True:
            try:
                found.append(orders.decode_order(self.ends[-1].recv(orders.MAX_PACKET_BYTES)))
            except BlockingIOError:
                return found

    def pull(self, request: int = 1) -> None:
        self.hears(self.asker, objects.Pull(request, KEY, 2, NBYTES))


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.objects.begin()
    made.reports(orders.Listens(4711))
    yield made
    close(made)


def close(world: World) -> None:
    for end in world.ends:
        end.close()
    world.read()


def test_an_object_is_brought_and_the_asker_told(world: World) -> None:
    world.pull()
    assert world.orders() == [orders.Bring(KEY, OTHER, NBYTES)]
    world.reports(orders.Ended(KEY, received=NBYTES))
    assert world.answers == [(ASKER, node.Answer(1, True))]
    assert world.objects.counts["received_bytes"] == NBYTES


def test_a_copy_goes_a_while_after_the_asker_has_let_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.pull()
    world.reports(orders.Ended(KEY))
    world.orders()
    world.hears(world.asker, objects.LetGo([KEY]))
    assert world.orders() == []
    monkeypatch.setattr(module, "monotonic", lambda: monotonic() + 1)
    world.clock.passes(1)
    assert world.orders() == [orders.Remove(1, [KEY])]


def test_a_process_that_ends_lets_go_and_others_hear_of_it(world: World) -> None:
    world.pull()
    world.orders()
    world.objects.client_lost(world.asker)  # type: ignore[arg-type]
    assert world.orders() == [orders.GiveUp(KEY)]
    assert world.sent == [objects.ProcessOver(ASKER)]


@pytest.mark.parametrize(
    ("ended", "data", "text"),
    [
        (orders.Ended(KEY, pulls.LOST, "it is gone"), False, "it is gone"),
        (
            orders.Ended(KEY, pulls.FULL, "2 objects", full=(7, 9, 5)),
            True,
            "2 objects; it is the store of the node second ",
        ),
        (orders.Ended(KEY, pulls.FULL, full=(9, 7, 5)), True, "it is the store of the node "),
    ],
)
def test_why_it_could_not_be_brought(world: World, ended: orders.Ended, data: bool, text: str) -> None:
    world.pull()
    world.reports(ended)
    ((process, answer),) = world.answers
    assert (process, answer.ok, bool(answer.data)) == (ASKER, False, data)
    assert answer.error.startswith(text)


# --- tickets ----------------------------------------------------------------------------------------------------------


def test_a_ticket_is_known_to_both_ends(world: World) -> None:
    world.hears(world.other, objects.AskTicket())
    (expect,) = world.orders()
    (ticket,) = world.other.said
    assert (ticket.host, ticket.port) == ("127.0.0.1", 4711)
    assert (expect.id, expect.secret) == (ticket.id, ticket.secret)
    assert (expect.client, expect.server) == (OTHER_MANAGER, MANAGER)
    assert expect.sealed
    assert ticket.sealed


def test_a_ticket_of_another_node_is_passed_on(world: World) -> None:
    world.reports(orders.Ask(OTHER))
    assert world.sent == [objects.AskTicket()]
    world.objects.take_ticket(world.member, objects.DataTicket("10.0.0.1", 5, b"i", b"s", "", True))  # type: ignore[arg-type]
    assert world.orders() == [orders.Way(OTHER, "10.0.0.1", 5, b"i", b"s", MANAGER, OTHER_MANAGER, sealed=True)]


def test_there_is_no_way_to_a_node_without_a_connection(world: World) -> None:
    world.members.members.clear()
    world.reports(orders.Ask(OTHER))
    (way,) = world.orders()
    assert way.reason


def test_a_process_gets_no_ticket(world: World) -> None:
    with pytest.raises(RemoteProtocolError):
        world.hears(world.asker, objects.AskTicket())


@pytest.mark.parametrize("what", ["nobody reads here", "not there yet"])
def test_no_ticket_is_given(what: str) -> None:
    world = World("" if what == "nobody reads here" else "127.0.0.1")
    if what == "nobody reads here":
        world.pull()
        world.reports(orders.Listens(4711))
    world.hears(world.other, objects.AskTicket())
    (ticket,) = world.other.said
    assert (ticket.port, bool(ticket.reason)) == (0, True)
    close(world)


def test_where_nobody_reads_it_starts_when_it_is_needed() -> None:
    world = World("")
    world.objects.begin()
    assert world.ends == []
    world.pull()
    assert len(world.ends) == 1
    world.reports(orders.Listens(4711))
    assert world.orders() == [orders.Bring(KEY, OTHER, NBYTES)]
    close(world)


# --- freeing ----------------------------------------------------------------------------------------------------------


def test_what_is_freed_elsewhere_is_told_together(world: World) -> None:
    for number in range(3):
        world.hears(world.asker, objects.FreeAt(2, [OWN + bytes([number]) * 16]))
    assert world.sent == []
    world.clock.passes(0.1)
    assert [len(message.keys) for message in world.sent] == [3]


def test_what_could_not_be_told_is_told_later(world: World) -> None:
    world.members.members.clear()
    world.hears(world.asker, objects.FreeAt(2, [KEY]))
    world.clock.passes(0.5)
    world.members.members[OTHER] = world.member
    world.clock.passes(2)
    assert world.sent == [objects.FreeObjects([KEY])]


def test_what_is_freed_here_is_removed(world: World) -> None:
    world.hears(world.asker, objects.FreeAt(1, [KEY]))
    world.hears(world.other, objects.FreeObjects([KEY]))
    assert world.orders() == [orders.Remove(1, [KEY]), orders.Remove(2, [KEY])]


def test_a_node_frees_only_what_its_processes_own(world: World) -> None:
    with pytest.raises(RemoteProtocolError):
        world.hears(world.other, objects.FreeObjects([OWN + b"p" * 16]))
    with pytest.raises(RemoteProtocolError):
        world.hears(world.other, objects.ProcessOver(ASKER))


def test_what_a_process_of_another_node_owned_goes_now_and_later(world: World) -> None:
    process = OTHER + b"\0\0\0\7"
    world.hears(world.other, objects.ProcessOver(process))
    assert world.lost == [process]
    world.clock.passes(5)
    assert world.lost == [process, process]


def test_a_node_that_dies(world: World) -> None:
    world.pull()
    world.orders()
    world.objects.node_down(OTHER, "it has died")
    world.objects.node_down(OTHER, "it has died")
    assert world.orders() == [orders.Gone(OTHER), orders.Remove(1, [], OTHER)]
    assert world.answers == []  # a third node may have it
    world.reports(orders.Ended(KEY, pulls.AGAIN, "no connection"))
    assert world.orders() == [orders.Bring(KEY, OTHER, NBYTES, list(world.members.members))]
    assert world.answers == []
    world.reports(orders.Ended(KEY, pulls.LOST, "nor there"))
    assert world.answers == [(ASKER, node.Answer(1, False, error="it has died"))]
    world.clock.passes(5)
    assert world.orders() == [orders.Remove(2, [], OTHER)]
    world.pull(2)
    assert world.orders() == [orders.Bring(KEY, OTHER, NBYTES, list(world.members.members))]
    world.reports(orders.Ended(KEY))
    assert world.answers[1:] == [(ASKER, node.Answer(2, True))]


def test_a_director_is_told_where_it_listens_once_it_does(world: World) -> None:
    early = Client(OTHER_MANAGER, "node")
    world.objects.port = 0
    world.hears(early, objects.AskDoor())
    assert early.said == []
    world.reports(orders.Listens(4321))
    world.hears(world.other, objects.AskDoor())
    assert early.said == world.other.said == [objects.Door("127.0.0.1", 4321)]


def test_one_that_serves_nobody_says_so() -> None:
    world = World(host="")
    world.hears(world.other, objects.AskDoor())
    assert world.other.said == [objects.Door("", 0)]
    with pytest.raises(RemoteProtocolError):
        world.hears(world.asker, objects.AskDoor())


def test_what_was_sent_to_other_nodes_is_counted(world: World) -> None:
    world.reports(orders.Served(KEY, OTHER, NBYTES))
    world.reports(orders.Served(KEY, OTHER, busy=True))
    assert (world.objects.counts["sent_bytes"], world.objects.counts["busy"]) == (NBYTES, 1)
    world.reports(orders.Served(b"", OTHER, bad_frames=1))
    assert world.objects.counts["bad_frames"] == 1


# --- its own end ------------------------------------------------------------------------------------------------------


def test_one_that_dies_is_replaced_and_told_all_again(world: World) -> None:
    world.pull()
    world.hears(world.other, objects.FreeObjects([KEY]))
    world.hears(world.other, objects.FreeObjects([KEY]))
    world.reports(orders.Removed(1))
    world.dies()
    world.clock.passes(1)
    assert len(world.ends) == 2
    assert world.stops == [1, 2]
    assert world.orders() == [orders.Remove(2, [KEY])]
    world.reports(orders.Listens(4712))
    assert world.orders() == [orders.Bring(KEY, OTHER, NBYTES)]
    assert world.objects.port == 4712


def test_one_that_never_listens_is_the_end_of_the_node() -> None:
    world = World()
    world.objects.begin()
    for _ in range(50):
        if not world.failed:
            world.dies()
            world.clock.passes(60)
    assert len(world.failed) == 1
    assert len(world.ends) < 20
    close(world)


def test_a_channel_without_room_is_filled_later(world: World) -> None:
    sent = 0
    while not world.objects._unsent:
        world.hears(world.other, objects.FreeObjects([KEY] * 200))
        sent += 1
    found = 0
    while found < sent:
        found += len(world.orders())
        world.clock.passes(0.1)
    assert found == sent
