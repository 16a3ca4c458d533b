"""Replies: when they are sent, and what goes along."""

import pytest
from tests.workers import Worker, id_of, sent

from ray.messages import wire
from ray.runtime.worker import replies as module
from ray.runtime.worker.outcome import Outcome
from ray.runtime.worker.replies import FLUSH_S, FLUSH_US, MAX_OUTBOX, Replies

SHORT, LONG = 1, FLUSH_US + 1


class Transport:
    settled = 0

    def settle(self, timeout_s):
        self.settled += 1
        return True


class Loop:
    def __init__(self):
        self.soon = []

    def call_soon(self, callback):
        self.soon.append(callback)


class Process:
    def __init__(self):
        self.worker = worker = Worker()
        self.peer, self.values, self.transport = worker.peer, worker.owner.values, Transport()
        peers = worker.owner.peers
        peers.cut_off = 0.0
        self.peers = peers
        self.replies = Replies(
            worker.desk,
            worker.actor,
            worker.life,
            worker.table,
            worker.owner.borrowing,
            self.values,
            self.transport,
            peers,
        )
        worker.executor.busy = True  # else each reply is sent at once

    def end(self, number, duration_us=SHORT, outcome=None, **facts):
        """A call has ended; returns it."""
        call = self.worker.call(number, **facts)
        self.replies.reply(call, outcome or Outcome(True, [b"value"]), duration_us)
        return call

    def answered(self, peer=None):
        """Numbers of the calls that were answered, message by message."""
        messages = sent(peer or self.peer, wire.Replies)
        return [[int.from_bytes(done.id[8:], "big") for done in message.done] for message in messages]


@pytest.fixture
def process():
    return Process()


def test_short_calls_are_answered_together(process):
    process.end(1)
    process.end(2)
    assert process.answered() == []
    process.worker.executor.busy = False
    process.end(3)
    assert process.answered() == [[1, 2, 3]]
    assert process.replies.unsent == {}


def test_a_call_that_was_long_is_answered_at_once(process):
    process.end(1)
    process.end(2, LONG)
    assert process.answered() == [[1, 2]]


def test_so_many_are_sent_whatever_follows(process):
    for number in range(MAX_OUTBOX):
        process.end(number)
    assert [len(numbers) for numbers in process.answered()] == [MAX_OUTBOX]


def test_large_values_do_not_wait(process):
    process.end(1, outcome=Outcome(True, [bytes(1 << 16)]))
    assert process.answered() == [[1]]


def test_what_waits_too_long_is_sent(process, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    process.end(1)
    process.replies.flush_old()
    assert process.answered() == []
    now[0] += FLUSH_S
    process.replies.flush_old()
    assert process.answered() == [[1]]


def test_functions_are_known_to_be_short(process):
    replies = process.replies
    process.end(1)
    assert (replies.brief, replies.long_ended) == ({b"f"}, False)
    process.end(2, LONG)
    assert (replies.brief, replies.long_ended) == (set(), True)


def test_replies_outlive_the_process_once_secured(process):
    process.end(1)
    process.replies.long_ended = True
    process.replies.secure()
    assert process.answered() == [[1]]
    assert (process.replies.long_ended, process.transport.settled) == (False, 1)


def test_calls_of_a_loop_are_answered_at_the_end_of_its_turn(process):
    loop = Loop()
    process.worker.start(9)
    for number in (1, 2):
        call = process.worker.call(number)
        call.coroutine = loop, None
        process.replies.reply(call, Outcome(True, [b"value"]), LONG)
    assert process.answered() == []
    [end_of_turn] = loop.soon
    end_of_turn()
    assert process.answered() == [[1, 2]]
    call = process.worker.call(3)
    call.coroutine = loop, None
    process.replies.reply(call, Outcome(True, [b"value"]), LONG)
    assert len(loop.soon) == 2


def test_the_last_call_on_a_loop_is_answered_at_once(process):
    call = process.worker.call(1)
    call.coroutine = Loop(), None
    process.replies.reply(call, Outcome(True, [b"value"]), LONG)
    assert process.answered() == [[1]]


def test_an_ending_process_returns_what_its_owner_has_sent(process):
    process.worker.desk.lessee = process.peer
    process.worker.queue(5)
    process.worker.life.exiting = "enough"
    process.end(1)
    [message] = sent(process.peer, wire.Replies)
    assert (message.exiting, message.returned) == (True, [id_of(5)])


def test_an_ending_process_keeps_the_lease_of_others(process):
    process.worker.life.exiting = "enough"
    process.end(1)
    [message] = sent(process.peer, wire.Replies)
    assert not message.exiting


def test_a_process_that_reaches_nobody_ends(process):
    process.peers.cut_off = 1.0
    process.end(1)
    assert process.worker.life.exiting
    assert process.answered() == [[1]]


def test_an_actor_that_reaches_nobody_goes_on(process):
    process.worker.become_actor()
    process.peers.cut_off = 1.0
    process.end(1)
    assert not process.worker.life.exiting


def test_nobody_takes_the_result_of_a_lost_peer(process):
    process.peer.lost = True
    process.end(1, outcome=Outcome(True, [None]))
    assert process.replies.unsent == {}
    assert process.values.discarded == [id_of(1) + bytes(4)]


def test_results_of_another_attempt_are_not_discarded(process):
    call = process.worker.call(1)
    call.abandoned, process.peer.lost = True, True
    process.replies.drop(call, Outcome(True, [None]))
    assert process.values.discarded == []


def test_refs_in_arguments_that_are_kept_are_told(process):
    table = process.worker.table
    entry = table.borrow(id_of(7) + bytes(4), "owner")
    entry.local = 1
    ref = wire.Ref(id=entry.id, address="owner")
    other = wire.Ref(id=id_of(8) + bytes(4), address="owner")
    process.end(1, LONG, refs=[ref, other])
    [message] = sent(process.peer, wire.Replies)
    assert message.done[0].kept == [entry.id]
    assert entry.handed == 1


def test_nothing_is_sent_where_nothing_is_queued(process):
    process.replies.flush(process.peer)
    process.replies.flush_all()
    assert sent(process.peer) == []


def held_by(process, call):
    """A ref in the arguments of the call, which its process holds for it alone."""
    entry = process.worker.table.own(id_of(9) + bytes(4))
    entry.pins, entry.local = 1, 0
    call.held = [entry]
    return entry


def test_arguments_are_let_go_of_before_the_reply(process):
    call = process.worker.call(1)
    entry = held_by(process, call)
    process.replies.reply(call, Outcome(True, [b"value"]), SHORT)
    assert entry.pins == 0


def test_a_call_that_goes_on_keeps_its_arguments(process):
    call = process.worker.call(1)
    entry = held_by(process, call)
    call.abandoned = True
    process.replies.queue(call, Outcome(False, [b"envelope"]), SHORT)
    assert entry.pins == 1
    process.replies.drop(call, Outcome(True, [b"value"]))
    assert entry.pins == 0


class Ref:
    def __init__(self, entry):
        self._entry = entry


def test_refs_in_results_are_handed_over(process):
    entry = process.worker.table.own(id_of(9) + bytes(4))
    outcome = Outcome(True, [b"value"], [[Ref(entry)]])
    process.end(1, LONG, outcome)
    [message] = sent(process.peer, wire.Replies)
    assert [ref.id for ref in message.done[0].refs[0]] == [entry.id]
    assert outcome.refs is None
