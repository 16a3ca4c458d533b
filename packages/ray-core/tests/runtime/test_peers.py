"""Peers are dialled: parts that need one go on when it is decided whether it is reached, and hear whose fault it is."""

from __future__ import annotations

import contextlib
import errno
import weakref
from typing import Any

import pytest

from ray.clock import monotonic
from ray.messages import codec
from ray.protocol.handshake import Membership
from ray.runtime.process import own_faults, peers
from ray.runtime.process.own_faults import CutOffError, OutOfDescriptorsError
from ray.runtime.process.peers import PeerTable
from ray.testing.interruption import interrupted

WORKER, NODE = "unix:/w.sock", "unix:/node.sock"
#: The id of the process there.
ID = WORKER.encode()


class Connection:
    def __init__(self, address: str) -> None:
        self.address = address
        self.context: Any = None
        self.dialling, self.closed = True, False
        self.failure: ConnectionError | None = None
        self.sent: list[Any] = []

    def send(self, frames: Any) -> None:
        self.sent.append(frames)

    def abort(self) -> None:
        self.closed, self.dialling = True, False

    def stand(self) -> None:
        self.dialling = False

    def fail(self, reason: str = "nobody listens there") -> None:
        self.dialling, self.closed = False, True
        self.failure = ConnectionError(f"cannot connect to {self.address}: {reason}")


class Transport:
    """Decides at once about what is in ``known``: by a reason, or an empty text where it stands."""

    def node_in(self, address):
        return 0

    def __init__(self) -> None:
        self.dialled: list[Connection] = []
        self.known: dict[str, str] = {}
        self.lacks = 0

    def dial(self, address: str, timeout_s: float = 5.0) -> Connection:
        if self.lacks:
            self.lacks -= 1
            raise ConnectionError("no more") from OSError(errno.EMFILE, "too many open files")
        connection = Connection(address)
        self.dialled.append(connection)
        if self.known.get(address):
            connection.fail(self.known[address])
        elif address in self.known:
            connection.stand()
        return connection

    def to(self, address: str) -> Connection:
        return [connection for connection in self.dialled if connection.address == address][-1]


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def table(transport: Transport) -> PeerTable:
    made = PeerTable(transport, Membership("session"), "driver", b"q" * 8)  # type: ignore[arg-type]
    made.node_address = NODE
    return made


class Waiter:
    """Needs a peer, and keeps what it is told."""

    def __init__(self, table: PeerTable, address: str = WORKER) -> None:
        self.table, self.address = table, address
        self.told: list[Any] = []

    def need(self, failure: ConnectionError | None = None) -> None:
        try:
            peer = self.table.stand(self.address.encode(), self.address, self, self.need, failure)
        except ConnectionError as error:
            self.told.append(error)
        else:
            if peer is not None:
                self.told.append(peer)


def test_what_is_decided_at_once_is_told_at_once(table, transport):
    transport.known = {WORKER: "", NODE: ""}
    waiter = Waiter(table)
    waiter.need()
    assert waiter.told == [table.by_process[ID]]
    assert table.made == 1
    assert not table.dialling
    transport.known["unix:/x.sock"] = "nobody listens there"
    other = Waiter(table, "unix:/x.sock")
    other.need()
    assert str(other.told[0]) == "cannot connect to unix:/x.sock: nobody listens there"
    assert b"unix:/x.sock" not in table.by_process
    assert transport.to(NODE).closed
    assert table.made == 1


@pytest.mark.parametrize("reason", ["", "nobody listens there either"])
def test_a_dial_that_fails_at_once_waits_until_it_is_known_whose_fault_it_is(table, transport, reason):
    """The node manager is dialled for that, and may not have answered yet."""
    transport.known[WORKER] = "nobody listens there"
    waiter = Waiter(table)
    waiter.need()
    assert table.look() == []
    assert waiter.told == []
    probe = transport.to(NODE)
    if reason:
        probe.fail(reason)
    else:
        probe.stand()
    lost = table.look()
    assert ID not in table.by_process
    assert (isinstance(waiter.told[0], CutOffError), [peer.process for peer in lost]) == (
        bool(reason),
        [ID] * (not reason),
    )
    assert len(transport.dialled) == 2
    assert not table.dialling


def test_who_needs_a_peer_goes_on_once_it_stands(table, transport):
    first, second = Waiter(table), Waiter(table)
    for waiter in (first, second, first):
        waiter.need()
    [connection] = transport.dialled
    assert len(connection.sent) == 1  # hello waits with it
    assert codec.decode(connection.sent[0]).to == ID
    assert table.look() == []
    assert first.told == second.told == []
    connection.stand()
    assert table.look() == []
    peer = table.by_process[ID]
    assert first.told == second.told == [peer]
    assert peer.stands
    assert table.made == 1
    assert not table.dialling
    assert table.look() == []
    assert first.told == [peer]


def test_a_peer_that_is_not_reached_is_to_blame_where_the_node_manager_is(table, transport):
    waiter = Waiter(table)
    waiter.need()
    peer = table.by_process[ID]
    transport.to(WORKER).fail()
    assert table.look() == []
    assert peer.lost
    assert ID not in table.by_process
    assert waiter.told == []  # the node manager is asked
    assert table.look() == []
    transport.to(NODE).stand()
    assert table.look() == [peer]
    assert str(waiter.told[0]) == f"cannot connect to {WORKER}: nobody listens there"
    assert not isinstance(waiter.told[0], own_faults.OwnFaultError)
    assert transport.to(NODE).closed
    assert table.made == 0
    assert not table.dialling


@pytest.mark.parametrize("at_once", [True, False])
def test_this_process_is_cut_off_where_nobody_is_reached(table, transport, at_once):
    if at_once:
        transport.known = {WORKER: "gone", NODE: "gone"}
    waiter = Waiter(table)
    waiter.need()
    if not at_once:
        transport.to(WORKER).fail()
        table.look()
        transport.to(NODE).fail()
        assert table.look() == []  # it may live
    [error] = waiter.told
    assert isinstance(error, CutOffError)
    assert NODE in str(error)
    assert table.cut_off == error.since > 0
    transport.known = {"unix:/other.sock": ""}
    table.reach(b"other", "unix:/other.sock")
    assert table.cut_off == 0


def test_a_node_manager_that_answers_late_is_no_sign(table, transport, monkeypatch):
    waiter = Waiter(table)
    waiter.need()
    transport.to(WORKER).fail()
    table.look()
    monkeypatch.setattr(own_faults, "monotonic", lambda: monotonic() + 2)
    transport.to(NODE).fail("no answer within 1 s")
    assert len(table.look()) == 1
    assert not isinstance(waiter.told[0], CutOffError)
    assert table.cut_off == 0


def test_without_descriptors_nobody_is_to_blame(table, transport):
    transport.lacks = 2
    waiter = Waiter(table)
    waiter.need()
    assert isinstance(waiter.told[0], OutOfDescriptorsError)
    transport.lacks = 1  # the limit could be raised
    waiter.need()
    assert ID in table.by_process


def test_a_peer_that_was_lost_right_after_it_stood_has_stood(table, transport):
    waiter = Waiter(table)
    waiter.need()
    connection = transport.to(WORKER)
    connection.dialling, connection.closed = False, True
    table.look()
    assert waiter.told == [table.by_process[ID]]


@pytest.mark.parametrize("reason", ["", "nobody listens there"])
def test_a_look_inside_a_look_tells_everybody(transport, reason):
    """A call that interrupts may wait for what only the calls bring that wait for the peer."""
    point = points = 1
    while point <= points:
        transport.dialled.clear()
        table = PeerTable(transport, Membership("session"), "driver", b"q" * 8)
        table.node_address = NODE
        transport.known = {NODE: ""}
        waiters = [Waiter(table), Waiter(table)]
        for waiter in waiters:
            waiter.need()
        if reason:
            transport.to(WORKER).fail(reason)
        else:
            transport.to(WORKER).stand()

        def look(table=table, waiters=waiters):
            table.look()
            assert all(waiter.told for waiter in waiters)

        _, points = interrupted(table.look, point, look, lambda path: path == peers.__file__)
        look()
        assert not table.dialling
        assert table.made == (not reason)
        for waiter in waiters:
            assert len({str(told) for told in waiter.told}) == 1
        point += 1
    assert point > 10


def test_a_reach_inside_a_reach_waits_as_well(transport):
    point = points = 1
    while point <= points:
        transport.dialled.clear()
        table = PeerTable(transport, Membership("session"), "driver", b"q" * 8)
        transport.known = {}
        outer, inner = Waiter(table), Waiter(table)

        def need(table=table, inner=inner, transport=transport):
            inner.need()
            for connection in transport.dialled:
                if not connection.closed:
                    connection.stand()
            table.look()
            assert inner.told

        _, points = interrupted(outer.need, point, need, lambda path: path == peers.__file__)
        if point <= points:
            for connection in transport.dialled:
                if connection.dialling:
                    connection.stand()
            table.look()
            peer = table.by_process[ID]
            assert outer.told == inner.told == [peer], point
            assert not peer.connection.closed
            assert not table.dialling
        point += 1
    assert point > 5


def raised(text: str) -> ConnectionError:
    try:
        raise OSError(errno.ECONNREFUSED, "refused")
    except OSError as error:
        try:
            raise ConnectionError(text) from error
        except ConnectionError as failure:
            return failure


class Held:
    """Something of the program that asks for a peer."""


def ask_in_vain(table: PeerTable) -> weakref.ref[Held]:
    held = Held()
    with pytest.raises(ConnectionError, match="nobody is there"):
        table.reach(ID, WORKER)
    return weakref.ref(held)


@pytest.mark.usefixtures("no_collections")
def test_a_failed_dial_keeps_nothing_of_the_program(table: PeerTable, transport: Transport) -> None:
    """The transport may have the connection for a while yet, and its failure with it."""
    kept = Connection(WORKER)
    kept.dialling, kept.failure = False, raised("nobody is there")
    dial = transport.dial
    transport.dial = lambda address, timeout_s=5.0: kept if address == WORKER else dial(address)  # type: ignore[method-assign]
    transport.known[NODE] = ""
    assert ask_in_vain(table)() is None
    assert kept.failure is not None
    assert kept.failure.__traceback__ is None


@pytest.mark.usefixtures("no_collections")
def test_nor_does_one_of_a_process_that_reaches_nobody(table: PeerTable, transport: Transport) -> None:
    transport.known = {WORKER: "nobody is there"}
    dial = transport.dial

    def dial_worker(address: str, timeout_s: float = 5.0) -> Connection:
        if address == NODE:
            raise ConnectionError("nobody is there either")
        return dial(address)

    transport.dial = dial_worker  # type: ignore[method-assign]
    assert ask_in_vain(table)() is None


class Forgetful(Waiter):
    def need(self, failure: ConnectionError | None = None) -> None:
        with contextlib.suppress(ConnectionError):
            self.table.stand(self.address.encode(), self.address, self, self.need, failure)


def look_in_vain(table: PeerTable) -> weakref.ref[Held]:
    held = Held()
    table.look()
    assert not table.dialling
    return weakref.ref(held)


@pytest.mark.usefixtures("no_collections")
def test_nor_does_one_that_is_told_later(table: PeerTable, transport: Transport) -> None:
    """To those that wait, by a call of the program that polls."""
    transport.known = {NODE: ""}
    Forgetful(table).need()
    transport.to(WORKER).fail()
    assert look_in_vain(table)() is None
