"""Calls on their way through a worker."""

import pytest
from tests.workers import Calls, Worker, id_of, sent

from ray.messages import wire
from ray.runtime.interface import STREAMING
from ray.runtime.worker.call import current_call


@pytest.fixture
def worker():
    return Worker()


class Stream:
    looks = 0

    def look(self):
        self.looks += 1


def held_by(worker, call):
    """A ref in the arguments of the call, which its process holds for it alone."""
    entry = worker.table.own(id_of(99) + bytes(4))
    entry.pins = 1
    entry.local = 0
    call.held = [entry]
    return entry


def test_a_call_that_ends_lets_go_of_its_arguments_once(worker):
    call = worker.start(1)
    entry = held_by(worker, call)
    worker.desk.let_go(call)
    worker.desk.let_go(call)
    assert (entry.pins, call.held) == (0, ())
    assert list(worker.table.dropped) == [entry]


def test_a_call_that_comes_anew_takes_the_place_of_one_that_waits(worker):
    call = worker.queue(1)
    entry = held_by(worker, call)
    worker.desk.supersede(call.task.id)
    assert not worker.desk.queued
    assert entry.pins == 0
    assert not call.abandoned


def test_a_call_that_comes_anew_leaves_one_that_runs_without_a_caller(worker):
    call = worker.start(1)
    worker.desk.supersede(call.task.id)
    assert call.abandoned
    assert (worker.desk.running, worker.desk.overdue) == ({}, {call})


def test_what_one_owner_takes_back(worker):
    other = worker.peer_at("other")
    mine, others = worker.queue(1), worker.queue(2, other)
    assert worker.desk.take_back(worker.peer) == [mine.task.id]
    assert list(worker.desk.queued.values()) == [others]


def test_what_an_actor_returns_that_ends(worker):
    other = worker.peer_at("other")
    for number, peer in enumerate([worker.peer, other, worker.peer]):
        worker.queue(number, peer)
    worker.desk.return_queued("enough")
    assert not worker.desk.queued
    [message] = sent(worker.peer)
    assert (message.returned, message.exiting, message.reason) == ([id_of(0), id_of(2)], True, "enough")
    [message] = sent(other, wire.Replies)
    assert message.returned == [id_of(1)]


def test_streams_of_a_lost_process_look(worker):
    call, other = worker.start(1), worker.start(2, worker.peer_at("other"))
    call.stream, other.stream = Stream(), Stream()
    worker.start(3)
    worker.desk.peer_lost(worker.peer)
    assert (call.stream.looks, other.stream.looks) == (1, 0)


def test_the_call_of_a_worker_that_runs_one_at_a_time(worker):
    desk, call = worker.desk, worker.start(1)
    assert desk.this_call() is desk.oldest_call() is call


def test_calls_that_overlap_know_themselves(worker):
    desk, executor = worker.desk, Calls()
    desk.run_by(executor)
    assert desk.concurrent
    assert desk.executor is desk.next_executor is executor
    first, second = worker.start(1), worker.start(2)
    token = current_call.set(second)
    try:
        assert desk.this_call() is second
        assert desk.oldest_call() is first
    finally:
        current_call.reset(token)
    assert desk.this_call() is None


def test_others_are_those_nobody_waits_for_as_well(worker):
    desk, call = worker.desk, worker.start(1)
    other = worker.start(2)
    desk.supersede(other.task.id)
    assert desk.others(call) == [other]
    assert desk.others(other) == [call]


def test_an_actor_refuses_behind_its_end_until_the_process_does(worker):
    closing = worker.desk.closing
    end = worker.queue(1)
    closing.begin(end.task.id)
    assert closing.refuses()
    del worker.desk.queued[end.task.id]  # cancelled: the actor goes on
    assert not closing.refuses()


def test_so_many_calls_of_a_function_end_the_process(worker):
    life = worker.life
    life.executed(b"f", 2)
    life.executed(b"g", 2)
    assert not life.exiting
    life.executed(b"f", 2)
    assert life.exiting == "max_calls=2 was reached"


def test_the_consumer_of_a_stream_may_come_before_the_call_begins(worker):
    call = worker.queue(1, num_returns=STREAMING)
    call.worker = worker
    worker.desk.on_taken(worker.peer, wire.Taken(call.task.id, 3), ())
    assert call.stream is not None
    other = worker.start(2)
    worker.desk.on_taken(worker.peer, wire.Taken(other.task.id, 3), ())
    worker.desk.on_taken(worker.peer, wire.Taken(id_of(5), 3), ())
    assert other.stream is None


def test_what_goes_back_holds_nothing_any_more(worker):
    first = held_by(worker, worker.queue(1))
    worker.desk.take_back(worker.peer)
    second = held_by(worker, worker.queue(2))
    worker.desk.return_queued("enough")
    assert (first.pins, second.pins) == (0, 0)
