"""How a worker comes to its end."""

import contextlib

import pytest
from tests.workers import Worker, id_of, sent

from ray.ids import TASK_ID_BYTES
from ray.messages import node, wire
from ray.runtime.worker import process_end
from ray.runtime.worker.process_end import ProcessEnd, end_process


class LeftError(Exception):
    """The process would be gone."""


class Transport:
    def __init__(self):
        self.woken = self.settled = 0
        self.closed = False

    def wake(self):
        self.woken += 1

    def settle(self, timeout_s):
        self.settled += 1
        return True

    def close(self):
        self.closed = True


class Polling:
    def __init__(self):
        self.served = []

    def abandon(self):
        pass

    def serve_while(self, needed):
        self.served.append(needed())

    def wait(self, waiter, timeout_s):
        return False


class Plugins:
    left = False

    def leave(self):
        self.left = True


class Process:
    closed = False

    def __init__(self, monkeypatch):
        self.worker = worker = Worker()
        self.lock, self.timers, self.node = worker.lock, worker.clock, self
        self.send = worker.told.append
        self.transport, self.polling, self.plugins = Transport(), Polling(), Plugins()
        self.needed, self.flushes, self.codes = False, 0, []
        self.ending = ProcessEnd(self, worker.desk, worker.life, worker.actor, worker.slot, self)
        monkeypatch.setattr(process_end.os, "_exit", self.exit)
        monkeypatch.setattr(process_end.atexit, "_run_exitfuncs", lambda: None)

    def exit(self, code):
        self.codes.append(code)
        raise LeftError

    def is_needed(self):
        return self.needed

    def flush_all(self):
        self.flushes += 1

    def said(self, kind):
        return [message for message in self.worker.told if type(message) is kind]


@pytest.fixture
def process(monkeypatch):
    return Process(monkeypatch)


def test_the_last_call_leaves_the_executor(process):
    desk = process.worker.desk
    desk.next_executor = desk.executor
    process.ending.after_last_call()
    assert (desk.next_executor, process.worker.life.left, desk.executor.closed) == (None, True, True)
    assert len(process.said(node.Leaving)) == 1


def test_it_is_not_the_last_while_others_run(process):
    process.worker.start(1)
    process.ending.after_last_call()
    assert process.said(node.Leaving) == []


def test_an_actor_returns_what_has_not_begun(process):
    worker = process.worker
    worker.become_actor()
    worker.queue(1)
    process.ending.after_last_call()
    [message] = sent(worker.peer)
    assert (message.returned, message.exiting) == ([id_of(1)], True)


def test_a_worker_leaves_its_owner_to_find_out(process):
    process.worker.queue(1)
    process.ending.after_last_call()
    assert sent(process.worker.peer) == []


def test_other_calls_of_an_actor_that_ends_are_interrupted(process):
    call, other = process.worker.start(1), process.worker.start(2)
    process.ending.interrupt_others(call)
    assert (call.interrupted, other.interrupted) == (0, 1)


@pytest.mark.parametrize("threads", [True, False])
def test_coroutines_that_go_on_are_left_behind(process, monkeypatch, threads):
    class Thread:
        def __init__(self, *, target, args):
            self.run = lambda: target(*args)

        def start(self):
            if not threads:
                raise RuntimeError("no more threads")
            started.append(self.run)

    started = []
    monkeypatch.setattr(process_end, "UnawaitedThread", Thread)
    call, other = process.worker.start(1), process.worker.start(2)
    other.coroutine = object()
    process.ending.interrupt_others(call)
    assert process.transport.woken == 2
    with contextlib.nullcontext() if threads else pytest.raises(LeftError):
        process.worker.clock.passes(process_end.OTHERS_S)
    if threads:
        with pytest.raises(LeftError):
            started[0]()
    assert process.codes == [0]


def test_an_orderly_end(process):
    process.worker.actor.instance = object()
    with pytest.raises(LeftError):
        end_process(process.ending, 0)
    assert process.plugins.left
    assert process.worker.actor.instance is None
    assert (process.codes, process.closed, process.transport.closed) == ([0], True, True)
    assert process.flushes == 2
    assert process.polling.served == []


def test_an_end_waits_as_long_as_others_need_the_process(process):
    process.needed = True
    with pytest.raises(LeftError):
        process.ending.run(0)
    assert process.polling.served == [True]
    assert len(process.said(node.Lingering)) == 1


def test_an_end_at_once_runs_nothing_of_the_users(process):
    with pytest.raises(LeftError):
        end_process(process.ending, 1)
    assert (process.codes, process.plugins.left, process.flushes) == ([1], False, 1)


def test_an_actor_that_dies_by_its_own_doing_leaves_nobody_in_doubt(process):
    worker = process.worker
    worker.become_actor()
    worker.queue(1)
    with pytest.raises(LeftError):
        process.ending.run(3, "sys.exit(3) was called", id_of(7))
    assert worker.life.exiting == "sys.exit(3) was called"
    assert [message.returned for message in sent(worker.peer, wire.Replies)] == [[id_of(1)]]
    assert process.transport.settled == 1
    assert worker.slot.running == id_of(7)
    assert [message.reason for message in process.said(node.Leaving)] == ["sys.exit(3) was called"]


@pytest.mark.parametrize("runs", [False, True])
def test_an_actor_that_has_answered_all_has_started_nothing_else(process, runs):
    worker = process.worker
    worker.become_actor()
    worker.slot.memory[:TASK_ID_BYTES] = id_of(1)
    worker.actor.announce_exit("enough")
    if runs:
        worker.start(1)
    with pytest.raises(LeftError):
        process.ending.leave(0)
    assert worker.slot.running == (id_of(1) if runs else bytes(TASK_ID_BYTES))


def test_an_end_that_takes_too_long_is_told_of_and_cut_short(process, monkeypatch):
    told = []
    monkeypatch.setattr(process_end, "tell", lambda write, text: told.append(text))
    process.ending.begin()
    process.worker.clock.passes(process_end.END_S)
    assert len(told) == 1
    assert "took longer" in told[0]
    with pytest.raises(LeftError):
        process.worker.clock.passes(1.0)
    assert process.codes == [0]
