"""Peers that are still being dialled: nothing is lost, and what follows where they are not reached is as ever."""

import os

import pytest
from tests.owners import Owner

from ray.exceptions import RayConnectionError
from ray.messages import node, wire
from ray.protocol import actor_entries
from ray.protocol.references import FAILED, PENDING, READY
from ray.runtime.owner.shortage import AGAIN_S
from ray.runtime.process.own_faults import CutOffError, OutOfDescriptorsError
from ray.serialization import open_envelope

ACTOR = b"actor 1"


@pytest.fixture
def owner():
    made = Owner()
    made.peers.slow |= {"o", "a"}
    return made


def error_of(entry):
    return open_envelope(entry.value)


# --- owners of borrowed objects -------------------------------------------------------------------------------------


def borrowed(owner):
    return owner.borrowing.borrow(b"theowner" + os.urandom(12), "o")


def test_an_owner_gets_what_it_was_sent_and_answers(owner):
    entry = borrowed(owner)
    owner.borrowing.want(entry)
    assert owner.sent("o", wire.Fetch) == [wire.Fetch(entry.id)]
    owner.peers.decide("o")
    assert entry.status == PENDING
    peer = owner.peers.at("o")
    assert not peer.waiting
    owner.borrowing.on_fetched(peer, wire.Fetched(entry.id, READY, b"value", []), [b""])
    assert entry.status == READY


def test_an_owner_that_was_dialled_in_vain_has_died(owner):
    entries = [borrowed(owner) for _ in range(3)]
    for entry in entries:
        owner.borrowing.want(entry)
    owner.peers.decide("o", ConnectionError("nobody listens there"))
    for entry in entries:
        assert entry.status == FAILED
        assert type(error_of(entry)).__name__ == "OwnerDiedError"


def test_a_process_that_is_cut_off_asks_again_for_a_while(owner):
    entry = borrowed(owner)
    owner.borrowing.want(entry)
    error = CutOffError(ConnectionError("no such directory"), 1e12)
    owner.peers.decide("o", error)
    assert entry.status == PENDING
    owner.clock.passes(AGAIN_S)
    assert owner.sent("o", wire.Fetch) == [wire.Fetch(entry.id)]
    error.since = 0.0
    owner.peers.decide("o", error)
    assert isinstance(error_of(entry), RayConnectionError)


# --- actors ---------------------------------------------------------------------------------------------------------


def alive(incarnation=0, address="a"):
    return node.ActorUpdate(ACTOR, actor_entries.ALIVE, incarnation, address, process=address.encode())


def called(owner, count=1):
    client = owner.calls.client(ACTOR, "A", False, watch=False)
    records = [owner.record() for _ in range(count)]
    for record in records:
        record.export = owner.export
        owner.calls.submit(client, record)
    return client, records


def pushed(owner, address="a"):
    return [task.id for push in owner.sent(address, wire.Push) for task in push.tasks]


def test_calls_go_once_the_actor_stands_in_order(owner):
    client, records = called(owner)
    owner.calls.updated(alive())
    records += called(owner, 3)[1]
    assert client.peer is None
    assert pushed(owner) == []
    owner.peers.decide("a")
    assert pushed(owner) == [record.id for record in records]
    assert client.peer is owner.peers.at("a")


def test_an_actor_that_was_dialled_in_vain_is_tried_again(owner):
    client, records = called(owner, 2)
    owner.calls.updated(alive())
    owner.peers.decide("a", ConnectionError("no answer"))
    assert client.callee.away is not None
    assert not client.inflight
    owner.clock.passes(AGAIN_S)
    owner.peers.decide("a")
    assert client.callee.away is None
    assert pushed(owner) == [record.id for record in records]


def test_without_descriptors_calls_wait(owner):
    _, records = called(owner)
    owner.calls.updated(alive())
    owner.peers.decide("a", OutOfDescriptorsError("no more files"))
    owner.clock.passes(AGAIN_S)
    owner.peers.decide("a")
    assert pushed(owner) == [record.id for record in records]


def test_a_call_while_an_actor_is_dialled_again_dials_no_more(owner):
    client, _ = called(owner)
    owner.calls.updated(alive())
    error = CutOffError(ConnectionError("no such directory"), 0.0)
    owner.peers.decide("a", error)
    called(owner, 5)
    assert owner.peers.made == 2
    assert len(owner.peers.at("a").waiting) == 1
    owner.peers.decide("a")
    assert len(client.inflight) == 5


def test_an_actor_that_moves_while_it_is_dialled_is_reached_where_it_is(owner):
    client, records = called(owner)
    owner.calls.updated(alive())
    owner.calls.updated(node.ActorUpdate(ACTOR, actor_entries.RESTARTING, 1))
    owner.calls.updated(alive(1, "b"))
    assert pushed(owner, "b") == [record.id for record in records]
    owner.peers.decide("a", ConnectionError("nobody listens there"))
    assert client.peer is owner.peers.at("b")
    assert client.callee.away is None


def test_calls_by_a_lost_connection_are_decided_only_when_there_is_another_one(owner):
    """The node manager may be about to say how the actor has ended, while nobody answers."""
    owner.peers.slow.clear()
    client, [record] = called(owner)
    owner.calls.updated(alive())
    assert pushed(owner) == [record.id]
    peer = owner.peers.by_process.pop(b"a")
    owner.peers.slow.add("a")
    owner.calls.peer_lost(client, peer)
    owner.clock.passes(1.0)
    assert client.inflight
    assert record.entries[0].status == PENDING
    owner.peers.decide("a")
    assert record.entries[0].status == FAILED
