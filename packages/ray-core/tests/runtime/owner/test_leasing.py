"""Tasks and leased workers, without any process."""

import pytest
from tests.owners import Owner

from ray.messages import node, wire
from ray.protocol.references import FAILED, PENDING, READY
from ray.protocol.tasks import IDLE_HOLD_S
from ray.runtime.owner.unreached_workers import MAX_WORKERS
from ray.runtime.process.own_faults import OutOfDescriptorsError
from ray.serialization import open_envelope, serialize_small

VALUE = serialize_small(7)


@pytest.fixture
def owner():
    return Owner()


def grant(owner, lease=b"lease 1", address="w1"):
    (key,) = {message.key for message in owner.said(node.Demand)}
    owner.leasing.granted(node.Granted(key, lease, address, 1, [], address.encode()))
    return owner.leasing.links.get(lease)


def reply(owner, link, record, **facts):
    done = wire.Done(record.id, **({"ok": True, "values": [VALUE]} | facts))
    owner.leasing.on_replies(link, wire.Replies([done]), [b""])


def test_a_task_asks_for_a_worker_and_is_pushed_to_it(owner):
    record = owner.submit()
    assert [message.count for message in owner.said(node.Demand)] == [1]
    link = grant(owner)
    (push,) = owner.sent("w1", wire.Push)
    assert [task.id for task in push.tasks] == [record.id]
    assert [function.data for function in push.functions] == [b"code"]
    reply(owner, link, record)
    assert (record.entries[0].status, record.entries[0].value) == (READY, VALUE)


def test_the_code_of_a_function_goes_along_once(owner):
    for _ in range(2):
        record = owner.submit()
        link = owner.leasing.links.get(b"lease 1") or grant(owner)
        reply(owner, link, record)
    assert [len(push.functions) for push in owner.sent("w1", wire.Push)] == [1, 0]


def test_a_worker_that_is_idle_is_given_back_after_a_while(owner):
    record = owner.submit()
    link = grant(owner)
    reply(owner, link, record)
    owner.clock.passes(IDLE_HOLD_S / 2)
    assert owner.said(node.Release) == []
    link.lease.idle_since -= IDLE_HOLD_S  # of the real clock
    owner.clock.passes(IDLE_HOLD_S)
    assert owner.said(node.Release) == [node.Release(b"lease 1")]
    assert owner.leasing.links == {}


@pytest.mark.parametrize("retries", [0, 1])
def test_the_death_of_its_worker(owner, retries):
    record = owner.submit(retries)
    grant(owner)
    cause = node.ExitCause(pid=1, signal=9)
    owner.leasing.lease_ended(node.LeaseEnded(b"lease 1", cause))
    assert record.entries[0].status == PENDING  # its last words may be under way
    owner.clock.passes(1.0)
    if retries:
        assert record.entries[0].status == PENDING
        assert record.attempt == 1
        grant(owner, b"lease 2", "w2")
        assert [task.attempt for task in owner.sent("w2", wire.Push)[0].tasks] == [1]
    else:
        assert record.entries[0].status == FAILED
        assert "signal 9" in str(open_envelope(record.entries[0].value))


def test_results_that_were_sent_before_the_death_count(owner):
    record = owner.submit()
    link = grant(owner)
    owner.leasing.lease_ended(node.LeaseEnded(b"lease 1", node.ExitCause(signal=9)))
    reply(owner, link, record)
    owner.clock.passes(1.0)
    assert record.entries[0].status == READY


def test_a_failure_is_retried_where_that_is_asked_for(owner):
    record = owner.submit(retries=1)
    link = grant(owner)
    reply(owner, link, record, ok=False, values=[b"error"], retry=True)
    assert (record.attempt, record.retries, record.entries[0].status) == (1, 0, PENDING)
    assert [task.attempt for push in owner.sent("w1", wire.Push) for task in push.tasks] == [0, 1]


def test_a_task_that_is_cancelled_in_the_queue_is_not_sent(owner):
    record = owner.submit()
    owner.leasing.cancel_unsent(record, record.place)
    assert record.entries[0].status == FAILED
    assert owner.said(node.Demand)[-1].count == 0
    grant(owner)
    assert owner.sent("w1", wire.Push) == []


def test_a_task_that_cannot_be_sent_holds_up_no_other(owner):
    link = None
    for name in ("a\udc80", "b"):
        record, argument = owner.record(), owner.record().entries[0]
        owner.table.complete(argument, READY, VALUE)
        record.export, record.deps = owner.export, [(name, argument)]
        record.place = owner.leasing.place(owner.options)[1]
        owner.leasing.enqueue(record.place, record)
        link = link or grant(owner)
    owner.clock.passes(1.0)
    assert [len(push.tasks) for push in owner.sent("w1", wire.Push)] == [1]
    reply(owner, link, record)
    assert record.entries[0].status == READY


def test_a_worker_that_cannot_be_reached_is_suspected(owner):
    owner.submit()
    owner.peers.away["w1"] = ConnectionError("nobody is there")
    grant(owner, b"proclease")
    assert owner.said(node.Suspect) == [node.Suspect(b"proclease")]
    grant(owner, b"lease 2", "w2")
    assert len(owner.sent("w2", wire.Push)) == 1


def test_a_worker_of_another_node_that_cannot_be_reached_is_given_back(owner):
    """Something in between may have answered the call: its own node manager knows whether it lives."""
    owner.submit()
    owner.peers.away["w1"] = ConnectionError("nobody is there")
    grant(owner, b"far.lease")
    assert (owner.said(node.Suspect), owner.said(node.Release)) == ([], [node.Release(b"far.lease")])
    grant(owner, b"lease 2", "w2")
    assert len(owner.sent("w2", wire.Push)) == 1


def test_many_in_a_row_are_not_to_blame(owner):
    record = owner.submit()
    for number in range(MAX_WORKERS + 1):
        owner.peers.away[f"w{number}"] = ConnectionError("nobody is there")
        grant(owner, b"proc%d" % number, f"w{number}")
    assert len(owner.said(node.Suspect)) == MAX_WORKERS
    assert record.entries[0].status == FAILED
    assert f"{MAX_WORKERS} workers in a row could not be reached" in str(open_envelope(record.entries[0].value))


def test_without_descriptors_a_task_waits(owner):
    record = owner.submit()
    owner.peers.away["w1"] = OutOfDescriptorsError("no more files")
    grant(owner)
    assert owner.said(node.Release) == [node.Release(b"lease 1")]
    owner.peers.away.clear()
    owner.clock.passes(1.0)
    grant(owner, b"lease 2", "w1")
    assert [task.id for task in owner.sent("w1", wire.Push)[0].tasks] == [record.id]


def test_a_worker_that_is_dialled_gets_tasks_once_it_stands(owner):
    record = owner.submit()
    owner.peers.slow.add("w1")
    grant(owner)
    assert owner.sent("w1", wire.Push) == []
    owner.peers.decide("w1")
    assert [task.id for task in owner.sent("w1", wire.Push)[0].tasks] == [record.id]
    assert owner.said(node.Suspect) == []


def test_a_worker_that_was_dialled_in_vain_is_suspected(owner):
    record = owner.submit()
    owner.peers.slow.add("w1")
    grant(owner, b"proclease")
    owner.peers.decide("w1", ConnectionError("no answer"))
    assert owner.said(node.Suspect) == [node.Suspect(b"proclease")]
    grant(owner, b"lease 2", "w2")
    assert [task.id for task in owner.sent("w2", wire.Push)[0].tasks] == [record.id]


def test_what_is_said_of_a_lease_while_its_worker_is_dialled_counts(owner):
    record = owner.submit()
    owner.peers.slow |= {"w1", "w2"}
    grant(owner)
    grant(owner, b"lease 2", "w2")
    owner.leasing.revoked(node.Revoke(b"lease 1"))
    owner.leasing.lease_ended(node.LeaseEnded(b"lease 2", node.ExitCause()))
    owner.peers.decide("w2")
    assert owner.leasing.links == {}
    owner.peers.decide("w1")
    assert owner.said(node.Release) == [node.Release(b"lease 1")]
    assert owner.sent("w1", wire.Push) == owner.sent("w2", wire.Push) == []
    grant(owner, b"lease 3", "w3")
    assert [task.id for task in owner.sent("w3", wire.Push)[0].tasks] == [record.id]


def test_what_a_dead_worker_has_stored_and_not_told_of_goes_before_the_next_attempt(owner):
    record = owner.submit(retries=1)
    link = grant(owner)
    owner.leasing.lease_ended(node.LeaseEnded(link.lease.id, node.ExitCause(signal=9, running=record.id)))
    owner.clock.passes(1)
    assert (record.attempt, record.entries[0].status) == (1, PENDING)
    assert owner.values.discarded == [record.entries[0].id]
    reply(owner, grant(owner, b"lease 2", "w2"), record)
    assert record.entries[0].status == READY
