"""Processes that hold objects of an owner: what they say of that, and their ends."""

from __future__ import annotations

import pytest
from tests.owners import Owner

from ray.messages import wire
from ray.protocol.references import ObjectEntry
from ray.runtime.owner.borrowing import STRIKE_S
from ray.runtime.process.peers import Peer

NEAR, FAR, GIVER = b"process2", b"elsewher", b"elsewhe2"


@pytest.fixture
def owner() -> Owner:
    return Owner()


def held(owner: Owner, borrower: bytes) -> tuple[ObjectEntry, Peer]:
    """An object that nobody holds but a process that has it from another node, and says so."""
    entry = owner.record().entries[0]
    owner.table.grant(entry, borrower)
    peer = owner.peers.reach(borrower, borrower.decode())
    owner.borrowing.on_holds(peer, wire.Holds(entry.id, 1, [(GIVER, 1)]), [])
    return entry, peer


@pytest.mark.parametrize(("borrower", "delay_s"), [(NEAR, 0.0), (FAR, STRIKE_S)])
def test_what_a_borrower_has_claimed_ends_with_it(owner: Owner, borrower: bytes, delay_s: float) -> None:
    entry, peer = held(owner, borrower)
    del owner.peers.by_process[peer.process]
    owner.borrowing.peer_lost(borrower)
    owner.clock.passes(delay_s)
    assert list(owner.table.collect()) == [entry]
    assert owner.borrowing.claims.held == {}


def test_what_a_borrower_held_before_it_came_back_is_struck_out(owner: Owner) -> None:
    """What was said to it was lost, so it does not return that; what it is handed since it does."""
    entry, peer = held(owner, FAR)
    del owner.peers.by_process[FAR]
    owner.borrowing.peer_lost(FAR)
    owner.clock.passes(STRIKE_S / 2)
    peer = owner.peers.reach(FAR, "far")
    owner.borrowing.hand_over([entry], peer)
    owner.clock.passes(STRIKE_S)
    assert (entry.credits, entry.pins) == ({FAR: 1}, 0)
    owner.borrowing.on_credit(peer, wire.Credit(entry.id, FAR, -1), [])
    assert list(owner.table.collect()) == [entry]


def test_a_claim_ends_by_the_word_of_who_has_made_it(owner: Owner) -> None:
    """Not by that of a giver, which has not sent what it has said that it sends."""
    entry, peer = held(owner, FAR)
    giver = owner.peers.reach(GIVER, "giver")
    owner.borrowing.on_credit(giver, wire.Credit(entry.id, FAR, 1, "far"), [])
    owner.borrowing.on_credit(giver, wire.Credit(entry.id, FAR, -1), [])
    assert owner.borrowing.claims.held == {FAR: {entry.id: {GIVER: 1}}}
    owner.borrowing.on_credit(peer, wire.Credit(entry.id, FAR, -1), [])
    assert list(owner.table.collect()) == [entry]
