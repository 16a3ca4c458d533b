"""A process that connects has one peer here, whatever interrupts the first look at what it says."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ray.exceptions import RemoteProtocolError
from ray.messages import codec
from ray.protocol import handshake
from ray.protocol.conversations import KEPT_BYTES, Conversation
from ray.protocol.handshake import Membership
from ray.runtime.process import peers
from ray.runtime.process.kept_connection import KeptConnection
from ray.runtime.process.peers import DROPPED, Peer, PeerTable
from ray.testing.interruption import interrupted

ADDRESS = "unix:/other.sock"
ID = b"p" * 8


class Connection:
    def __init__(self):
        self.context, self.closed, self.aborted = None, False, False

    def abort(self):
        self.aborted = self.closed = True


class Transport:
    def node_in(self, address):
        return 0

    def cut_off(self):
        pass


def hello():
    return [codec.encode(handshake.hello(Membership("session"), "worker", ID, ADDRESS, 1))]


def known(kind):
    """A table, with what it knows of the address already."""
    table = PeerTable(Transport(), Membership("session"), "driver", b"q" * 8)
    if kind != "unknown":
        old = table.by_process[ID] = Peer(Connection(), ID, ADDRESS)
        old.connection.context = old
        old.incoming = kind == "connected before"
    return table


@pytest.mark.parametrize("kind", ["unknown", "connected before", "connected from here"])
def test_one_that_connects_is_accepted_once(kind):
    point = 0
    while True:
        point += 1
        table, connection, frames, lost = known(kind), Connection(), hello(), []

        def accept(table=table, connection=connection, frames=frames, lost=lost):
            if connection.context is None:  # else its messages are taken as those of a peer
                table.accept(connection, frames, lost.append)

        old = table.by_process.get(ID)
        _, points = interrupted(accept, point, accept, lambda path: path == peers.__file__)
        peer = table.by_process[ID]
        assert connection.context is peer, f"interrupted at point {point}"
        assert not connection.aborted
        if kind == "connected before":
            assert old.connection.aborted
            assert old.connection.context is DROPPED
            assert set(lost) == {old}
        else:
            assert lost == []
            assert (peer.second is connection) == (kind == "connected from here")
        if point > points:
            break
    assert point > 3


class Recorded(Connection):
    failure = None

    def __init__(self):
        super().__init__()
        self.sent = []

    def send(self, frames):
        self.sent.append(frames)


def far_hello(talk):
    said = handshake.hello(Membership("session"), "worker", ID, ADDRESS, 1)
    return [codec.encode(replace(said, talk=talk))]


@pytest.mark.parametrize("has_answered", [False, True])
def test_one_of_another_node_that_begins_anew_has_given_up_what_was_said_before(has_answered):
    """Else what it says now would be taken for what it has said already: its numbers begin anew as well."""
    table, connection, lost = known("unknown"), Recorded(), []
    talk = KeptConnection(Conversation(b"z"), Recorded())
    old = table.by_process[ID] = talk.inner.context = Peer(talk, ID, ADDRESS, near=False)
    talk.send((bytes(KEPT_BYTES),))  # more than is kept, which tells nothing of the other end
    if has_answered:
        talk.took(1, [b"of the other one"], lambda delay_s, callback: None)
    peer = table.accept(connection, far_hello(b"a"), lost.append)
    assert connection.context is peer
    if has_answered:
        assert (lost, peer is old, talk.is_over) == ([old], False, True)
        assert peer.talk.conversation.is_new(1)
    else:  # both have begun at the same time
        assert (lost, peer is old, peer.second) == ([], True, connection)
        assert talk.conversation.has_id(b"a")
        assert talk.conversation.has_id(b"z")


def test_one_without_an_id_is_answered_and_known_to_nobody():
    table, connection = known("unknown"), Connection()
    said = codec.encode(handshake.hello(Membership("session"), "observer", b"", "", 1))
    assert table.accept(connection, [said], None) is connection.context
    assert table.by_process == {}
    table.forget(connection.context)


def test_one_that_wants_another_process_is_refused():
    table, connection = known("unknown"), Connection()
    said = codec.encode(handshake.hello(Membership("session"), "worker", ID, ADDRESS, 1, b"somebody"))
    with pytest.raises(RemoteProtocolError, match=b"somebody".hex()):
        table.accept(connection, [said], None)
    assert table.by_process == {}
