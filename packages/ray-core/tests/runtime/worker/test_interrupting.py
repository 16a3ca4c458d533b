"""Interrupts of the user's code, and calls that do not end in time."""

import signal
import sys
import threading

import pytest
from tests.workers import Calls, Worker, id_of, sent

from ray.messages import node, wire
from ray.protocol.run_slot import TIMED_OUT
from ray.runtime.worker import abandoning, interrupting, limits
from ray.runtime.worker.abandoning import Abandoning
from ray.runtime.worker.interrupting import INSIST_S, Interrupting
from ray.runtime.worker.limits import TIMEOUT_GRACE_S, Limits
from ray.runtime.worker.outcome import Outcome


class Stream:
    looks = 0

    def look(self):
        self.looks += 1


class Output:
    is_due = False


class Replies:
    def __init__(self):
        self.queued, self.flushed = [], []

    def queue(self, call, outcome, duration_us):
        self.queued.append(call)

    def flush(self, peer):
        self.flushed.append(peer)


class Failing:
    def outcome_of(self, call, error):
        return Outcome(False, [b"envelope"])


class Process:
    def __init__(self, monkeypatch):
        self.worker = worker = Worker()
        self.signals, self.ends, self.wakes = [], [], []
        self.output, self.replies = Output(), Replies()
        self.interrupting = Interrupting(worker.desk, worker.clock, lambda: self.wakes.append(1), worker.slot)
        self.limits = Limits(
            worker.desk,
            worker.slot,
            worker.clock,
            lambda: self.wakes.append(1),
            worker.told.append,
            self.output,
            self.interrupting,
            Abandoning(worker.desk, self.replies, Failing(), worker.life, None),
        )
        self.handler = self.interrupting.handler
        monkeypatch.setattr(interrupting, "getsignal", lambda number: self.handler)
        monkeypatch.setattr(interrupting, "_signal_main_thread", lambda: self.signals.append(1))
        monkeypatch.setattr(abandoning, "end_process", lambda ending, code: self.ends.append(code))
        monkeypatch.setattr(limits, "monotonic", lambda: worker.clock.now)

    def overlap(self):
        """Calls may overlap from now on."""
        self.worker.desk.run_by(Calls())


@pytest.fixture
def process(monkeypatch):
    return Process(monkeypatch)


# --- interrupts -------------------------------------------------------------------------------------------------------


def test_a_signal_is_sent_until_it_is_noticed(process):
    call = process.worker.start(1)
    process.interrupting.insist(call)
    process.worker.clock.passes(2.5 * INSIST_S)
    assert len(process.signals) == 3
    call.noticed = True
    process.worker.clock.passes(2.5 * INSIST_S)
    assert len(process.signals) == 3


def test_no_signal_comes_to_a_later_call(process):
    call = process.worker.start(1)
    process.interrupting.insist(call)
    del process.worker.desk.running[call.task.id]
    process.worker.clock.passes(1.0)
    assert len(process.signals) == 1


def test_a_handler_of_the_users_is_called_once(process):
    process.handler = signal.SIG_IGN
    call = process.worker.start(1)
    process.interrupting.insist(call)
    process.worker.clock.passes(1.0)
    assert len(process.signals) == 1
    process.interrupting.insist(call, anew=True)
    assert len(process.signals) == 2


def test_it_is_not_called_where_the_node_manager_does(process):
    process.handler = signal.SIG_IGN
    call = process.worker.start(1)
    process.worker.slot.memory[:16] = call.task.id
    assert process.worker.slot.order(TIMED_OUT, call.task.id)
    process.interrupting.insist(call)
    process.worker.clock.passes(1.0)
    assert process.signals == []


def test_a_coroutine_is_cancelled(process):
    process.overlap()
    call = process.worker.start(1)
    call.coroutine = object(), object()
    process.interrupting.insist(call)
    assert (call.interrupted, process.signals) == (1, [])


def test_calls_on_other_threads_are_left_alone(process):
    process.overlap()
    process.interrupting.insist(process.worker.start(1))
    process.worker.clock.passes(1.0)
    assert process.signals == []


def user_code(process):
    """A frame of the program's."""
    process.handler(signal.SIGINT, sys._getframe())


def test_a_signal_interrupts_the_code_of_its_call(process):
    call = process.worker.start(1)
    user_code(process)  # its arguments are unpickled
    call.interruptible = True
    with pytest.raises(KeyboardInterrupt):
        user_code(process)
    call.noticed = True
    user_code(process)


def test_a_signal_says_why_it_comes(process):
    call = process.worker.start(1)
    call.interruptible, call.check = True, lambda: None
    slot = process.worker.slot
    slot.memory[:16] = call.task.id
    assert slot.order(TIMED_OUT, call.task.id)
    user_code(process)
    assert call.timed_out
    assert not call.cancelled


def test_a_signal_for_a_call_that_has_ended_is_dropped(process):
    call = process.worker.start(2)
    call.interruptible = True
    slot = process.worker.slot
    slot.memory[:16] = id_of(1)
    assert slot.order(TIMED_OUT, id_of(1))
    user_code(process)
    assert not call.timed_out


def test_destructors_are_not_interrupted(process):
    class Dies:
        def __del__(self):
            user_code(process)

    process.worker.start(1).interruptible = True
    Dies()
    assert process.wakes == [1]
    process.worker.clock.passes(0.01)
    assert process.signals == [1]


# --- limits -----------------------------------------------------------------------------------------------------------


def limited(process, number=1, timeout_s=1.0):
    call = process.worker.start(number, timeout_s=timeout_s)
    process.worker.slot.memory[:16] = call.task.id
    process.limits.begin(call)
    return call


def test_the_node_manager_looks_as_well_and_is_told_once(process):
    worker = process.worker
    worker.slot.heard(id_of(1))  # of an earlier attempt
    call = limited(process)
    assert not worker.slot.has_heard
    assert process.wakes == [1]
    assert worker.told == [node.Limited(1.0)]
    assert worker.slot.deadline == 1.0
    process.limits.end(call)
    assert worker.slot.deadline == 0.0
    worker.clock.passes(0.1)
    limited(process, 2)
    assert worker.told == [node.Limited(1.0)]


def test_a_call_over_its_time_is_interrupted(process):
    call = limited(process)
    process.worker.clock.passes(1.0)
    assert call.timed_out
    assert process.worker.slot.has_heard
    assert process.signals


def test_a_call_that_has_ended_is_not(process):
    call = limited(process)
    process.limits.end(call)
    process.worker.clock.passes(5.0)
    assert (call.timed_out, process.signals) == (False, [])


def test_the_process_ends_with_a_call_that_goes_on(process):
    call = limited(process)
    process.worker.clock.passes(1.0 + TIMEOUT_GRACE_S)
    assert (process.replies.queued, call.abandoned, process.ends) == ([call], True, [1])
    assert process.worker.life.exiting
    assert process.worker.desk.running == {}


def test_a_call_beside_others_goes_on_without_its_caller(process):
    process.overlap()
    worker = process.worker
    call = limited(process)
    worker.clock.passes(1.0 + TIMEOUT_GRACE_S)
    assert (process.ends, worker.life.exiting) == ([], "")
    assert worker.desk.overdue == {call}
    assert process.replies.flushed == [worker.peer]
    assert sent(worker.peer) == [wire.Began(call.task.id), wire.Began(call.task.id, over=True)]
    process.limits._abandoning.give_up(call)
    assert process.replies.queued == [call]


def test_owners_are_told_of_an_end_that_printing_may_delay(process):
    process.overlap()
    call, process.output.is_due = limited(process), True
    process.limits.end(call)
    assert sent(process.worker.peer)[1:] == [wire.Began(call.task.id, ended=True)]


def test_one_timer_is_for_all(process):
    process.overlap()
    first, second, third = limited(process, 1, 2.0), limited(process, 2, 1.0), limited(process, 3, 3.0)
    process.worker.clock.passes(1.0)
    assert [call.timed_out for call in (first, second, third)] == [False, True, False]
    process.worker.clock.passes(1.0)
    assert [call.timed_out for call in (first, second, third)] == [True, True, False]


# --- looks at whether a call is to go on ------------------------------------------------------------------------------


def watched(process, number=1):
    """A call whose looks are counted."""
    call = process.worker.start(number)
    call.looks = []
    call.check, call.check_on_loop = lambda: call.looks.append("thread"), lambda: call.looks.append("loop")
    return call


def test_a_call_looks_where_its_code_may_be_interrupted(process):
    call = watched(process)
    process.interrupting.check(call)
    assert call.looks == []
    call.interruptible = True
    process.interrupting.check(call)
    assert call.looks == ["thread"]


def test_a_call_does_not_look_beside_a_handler_of_the_users(process):
    call = watched(process)
    call.interruptible, process.handler = True, signal.SIG_IGN
    process.interrupting.check(call)
    assert call.looks == []


def test_a_call_does_not_look_on_other_threads(process):
    call = watched(process)
    call.interruptible = True
    thread = threading.Thread(target=process.interrupting.check, args=(call,))
    thread.start()
    thread.join()
    assert call.looks == []
    process.overlap()
    process.interrupting.check(call)
    assert call.looks == []


def test_a_coroutine_looks_on_its_loop(process):
    process.overlap()
    call = watched(process)
    call.coroutine = object(), object()
    process.interrupting.check(call)
    assert call.looks == ["loop"]


def test_a_task_that_waits_for_its_consumer_looks(process):
    call = process.worker.start(1)
    call.stream = Stream()
    process.interrupting.insist(call)
    assert call.stream.looks == 1
