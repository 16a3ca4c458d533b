"""Replies to tasks of which it is decided what became of them."""

from __future__ import annotations

import pytest
from tests.owners import Owner

from ray.messages import wire
from ray.protocol.references import READY

WORKER = b"process9"


@pytest.fixture
def owner():
    return Owner()


def test_what_the_worker_keeps_is_held(owner):
    entry = owner.table.put(owner.here.process_id + bytes(12), b"value")
    entry.local = 1
    peer = owner.peers.reach(WORKER, "worker")
    owner.borrowing.take_late([wire.Done(b"task", True, [b"value"], kept=[entry.id, b"gone"])], peer)
    entry.local = 0
    owner.table.dropped.append(entry)
    assert list(owner.table.collect()) == []
    owner.borrowing.on_credit(peer, wire.Credit(entry.id, WORKER, -1), [])
    assert list(owner.table.collect()) == [entry]


def test_the_owner_is_told_what_the_worker_keeps(owner):
    entry = owner.table.borrow(b"process8" + bytes(12), "other")
    peer = owner.peers.reach(WORKER, "worker")
    owner.borrowing.take_late([wire.Done(b"task", True, [b"value"], kept=[entry.id])], peer)
    assert owner.sent("other", wire.Credit) == [wire.Credit(entry.id, WORKER, 1, "worker")]
    assert entry.pins == 1


def test_refs_in_results_are_returned(owner):
    peer = owner.peers.reach(WORKER, "worker")
    id = WORKER + bytes(12)
    refs = [wire.Ref(id, "worker", status=READY, value=b"value")]
    owner.borrowing.take_late([wire.Done(b"task", True, [b"value"], refs=[refs])], peer)
    (entry,) = owner.table.collect()
    assert (entry.id, entry.handed) == (id, 1)
