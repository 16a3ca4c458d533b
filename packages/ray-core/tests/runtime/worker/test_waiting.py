"""What a worker does while its code waits."""

import pytest
from tests.workers import Worker, actor_to_start, id_of, sent

from ray.messages import node, wire
from ray.protocol.resources import UNIT
from ray.runtime.process.waiting import Waiter
from ray.runtime.worker import giving_back as giving_back_module
from ray.runtime.worker import loop_loan
from ray.runtime.worker.cpu_loan import BLOCK_GRACE_S, CpuLoan
from ray.runtime.worker.giving_back import GivingBack
from ray.runtime.worker.loop_loan import LoopLoan
from ray.runtime.worker.waiting import Waiting

RECALL = id_of(77)


class Threads:
    def __init__(self):
        self.held = []

    def set_for(self, resources):
        self.held.append(resources)


class OwnCalls:
    def __init__(self):
        self.waits, self.awaits = [], 0

    def wait(self, waiter, wait, name):
        self.waits.append(name)
        return wait(None)

    def awaited(self):
        self.awaits += 1


class Interrupting:
    def __init__(self):
        self.checked = []

    def check(self, call):
        self.checked.append(call)


class Ref:
    def __init__(self, entry):
        self._entry = entry


class Listener:
    call = None


class Process:
    def __init__(self):
        self.worker = worker = Worker()
        self.peer, worker.desk.lessee = worker.peer, worker.peer
        self.threads, self.own_calls, self.interrupting = Threads(), OwnCalls(), Interrupting()
        self.flushes, self.flushed, self.wakes = 0, [], 0
        self.giving_back = GivingBack(worker.desk, worker.slot, self.flushed.append, lambda: self.loan.blocked > 0)
        self.loan = CpuLoan(worker.desk, worker.actor, self.threads, self.giving_back, worker.told.append)
        #: What waits come to, one after the other, and how long they may last.
        self.waits, self.limits = [], []
        self.waiting = Waiting(worker.desk, self, self.loan, self.own_calls, self.interrupting, self.wait)
        self.pending = True
        self.loops = LoopLoan(
            worker.desk,
            worker.actor,
            worker.table,
            self.loan,
            self.own_calls,
            lambda listener: self.pending,
            self.wake,
        )

    def flush_all(self):
        self.flushes += 1

    def wake(self):
        self.wakes += 1

    def wait(self, waiter, timeout_s):
        self.limits.append(timeout_s)
        self.blocked_meanwhile = self.loan.blocked
        return self.waits.pop(0)


@pytest.fixture
def process():
    return Process()


# --- threads ----------------------------------------------------------------------------------------------------------


def test_a_short_wait_is_not_announced(process):
    process.waits = [True]
    assert process.waiting.block(Waiter(1), None)
    assert (process.flushes, process.limits, process.worker.told) == (1, [BLOCK_GRACE_S], [])


def test_a_long_wait_gives_the_cpu_back_and_what_has_not_begun(process):
    process.worker.queue(1)
    process.waits = [False, True]
    assert process.waiting.block(Waiter(1), None)
    assert process.blocked_meanwhile == 1
    assert process.worker.told == [node.Blocked(), node.Resumed()]
    assert sent(process.peer) == [wire.Returned([id_of(1)], True), wire.Unblocked()]
    assert process.worker.desk.queued == {}
    assert process.own_calls.waits == ["ray.get"]


def test_an_actor_keeps_its_calls(process):
    process.worker.become_actor()
    process.worker.queue(1)
    process.waits = [False, True]
    process.waiting.block(Waiter(1), None)
    assert process.worker.told == [node.Blocked(), node.Resumed()]
    assert sent(process.peer) == []
    assert process.worker.desk.queued


def test_a_limit_holds_for_the_whole_wait(process):
    process.waits = [False, False]
    assert not process.waiting.block(Waiter(1), 5.0)
    assert process.limits[0] == BLOCK_GRACE_S
    assert 4.0 < process.limits[1] < 5.0
    process.limits.clear()
    process.waits = [False, False]
    assert not process.waiting.block(Waiter(1), 0.0)
    assert process.limits == [0.0, 0.0]
    assert process.own_calls.waits == []


def test_it_is_told_when_the_last_thread_goes_on(process):
    process.loan.enter()
    process.loan.enter()
    process.loan.leave()
    assert process.worker.told == [node.Blocked()]
    process.loan.leave()
    assert process.worker.told == [node.Blocked(), node.Resumed()]


def test_a_wait_that_is_interrupted_ends(process):
    def wait(waiter, timeout_s):
        if timeout_s is None:
            raise KeyboardInterrupt
        return False

    process.waiting._wait = wait
    with pytest.raises(KeyboardInterrupt):
        process.waiting.block(Waiter(1), None)
    assert process.loan.blocked == 0


def test_a_call_that_was_cancelled_meanwhile_is_interrupted(process):
    call = process.worker.start(1)
    process.waits = [True, True]
    process.waiting.block(Waiter(1), None)
    assert process.interrupting.checked == []
    call.cancelled = True
    process.waiting.block(Waiter(1), None)
    assert process.interrupting.checked == [call]


def test_a_future_is_waited_for_as_a_thread_waits(process):
    entry, waits = process.worker.table.own(id_of(9) + bytes(4)), []
    process.waiting.wait_for_future(Ref(entry), lambda left_s: waits.append(left_s) or True)
    assert (process.own_calls.waits, waits) == (["future().result"], [None])


def test_native_threads_follow_the_lease(process):
    process.loan.renew({"CPU": UNIT})
    assert (process.threads.held, process.loan.resources) == ([{"CPU": UNIT}], {"CPU": UNIT})


# --- event loops ------------------------------------------------------------------------------------------------------


def await_one(process):
    listener = Listener()
    process.worker.table.listeners += 1
    assert process.loops.subscribe(listener)
    return listener


@pytest.fixture
def now(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(loop_loan, "monotonic", lambda: now[0])
    return now


def test_a_loop_that_awaits_for_long_counts_as_a_thread_that_waits(process, now):
    await_one(process)
    assert process.wakes == 1
    await_one(process)
    assert process.wakes == 1
    process.loops.look()
    assert process.worker.told == []
    assert process.loops.patience_s(1.0) == BLOCK_GRACE_S
    now[0] += 2 * BLOCK_GRACE_S
    process.loops.look()
    process.loops.look()
    assert process.worker.told == [node.Blocked()]
    assert process.loops.patience_s(1.0) == 1.0
    process.worker.table.listeners = 0
    process.loops.look()
    process.loops.look()
    assert process.worker.told == [node.Blocked(), node.Resumed()]
    assert (process.loops.since, process.loan.blocked) == (0.0, 0)


def test_what_is_there_is_not_awaited(process):
    process.pending = False
    assert not process.loops.subscribe(Listener())
    assert (process.loops.since, process.wakes) == (0.0, 0)


def test_an_actor_knows_which_call_awaits(process, now):
    process.worker.become_actor()
    call = process.worker.start(1)
    assert await_one(process).call is call
    assert process.own_calls.awaits == 1
    assert process.loops.since


def test_an_actor_without_resources_has_none_to_give_back(process):
    process.worker.actor.become(actor_to_start(resources={}))
    await_one(process)
    assert not process.loops.since
    assert process.own_calls.awaits == 1


# --- what goes back ---------------------------------------------------------------------------------------------------


def recall(process):
    process.giving_back.on_recall(process.peer, wire.Recall(RECALL), ())


def test_a_recall_leaves_what_is_about_to_begin(process):
    process.worker.queue(1)
    entry = process.worker.table.own(id_of(9) + bytes(4))
    entry.pins, process.worker.queue(2).held = 1, [entry]
    recall(process)
    assert entry.pins == 0
    assert sent(process.peer) == [wire.Returned([id_of(2)], False, RECALL)]
    assert list(process.worker.desk.queued) == [id_of(1)]


def test_a_recall_leaves_nothing_behind_a_call_that_runs(process):
    call = process.worker.start(1)
    process.worker.desk.started = call.task.id
    process.worker.queue(2)
    process.loan.blocked = 1
    recall(process)
    assert sent(process.peer) == [wire.Returned([id_of(2)], True, RECALL)]


def test_a_recall_that_is_in_force_spares_one(process):
    for number in (1, 2, 3):
        process.worker.queue(number)
    process.worker.slot.memory[:16] = id_of(1)
    process.worker.slot.revoke(RECALL)
    recall(process)
    assert list(process.worker.desk.queued) == [id_of(1)]
    assert sent(process.peer)[-1] == wire.Returned([], False, RECALL, True)
    assert process.worker.slot.may_start(id_of(5))


def test_a_recall_that_is_in_force_drops_what_was_about_to_begin(process):
    process.worker.slot.memory[:16] = id_of(9)  # started last, and ended
    process.worker.queue(1)
    process.worker.slot.revoke(RECALL)
    recall(process)
    assert process.worker.desk.queued == {}


def test_replies_go_before_what_goes_back(process):
    other = process.worker.peer_at("other")
    process.worker.queue(1, other)
    process.giving_back.give_back(blocked=False)
    assert process.flushed == [process.peer, other]
    assert sent(other) == [wire.Returned([id_of(1)])]
    assert sent(process.peer) == [wire.Returned([])]


def test_another_thread_waits_for_the_decision_of_the_main_one(process, monkeypatch):
    polls = []

    def sleep(seconds):
        polls.append(seconds)
        process.worker.desk.running.clear()

    monkeypatch.setattr(giving_back_module, "sleep", sleep)
    monkeypatch.setattr(giving_back_module, "get_ident", lambda: 0)
    process.worker.start(1)  # noted, but not to be started
    process.giving_back.give_back(blocked=False)
    assert len(polls) == 1
