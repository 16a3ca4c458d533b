"""From the push of a call to its reply."""

import os
import signal
import threading

import pytest
from tests.workers import Worker, id_of, sent

from ray.exceptions import RemoteProtocolError, TaskCancelledError
from ray.messages import wire
from ray.protocol.last_calls import TERMINATE_BYTES
from ray.protocol.resources import UNIT
from ray.runtime.worker import claiming, finishing
from ray.runtime.worker.call import TaskCall
from ray.runtime.worker.cancellations import Cancellations
from ray.runtime.worker.claiming import Claiming
from ray.runtime.worker.code_cache import ArgumentCache, CodeCache
from ray.runtime.worker.finishing import Finishing
from ray.runtime.worker.gpus import Gpus
from ray.runtime.worker.intake import Intake
from ray.runtime.worker.outcome import Outcome
from ray.serialization import open_envelope
from ray.serialization.pickling import dump_function

GPUS = ["0"]


class Replies:
    def __init__(self):
        self.brief, self.long_ended = {b"f"}, False
        self.steps, self.outcomes = [], []

    def secure(self):
        self.steps.append("secure")

    def reply(self, call, outcome, duration_us):
        self.steps.append("reply")

    def queue(self, call, outcome, duration_us):
        self.steps.append("queue")
        self.outcomes.append(outcome)

    def drop(self, call, outcome):
        self.steps.append("drop")

    def flush(self, peer):
        self.steps.append("flush")

    def flush_all(self):
        self.steps.append("flush_all")


class Limits:
    def __init__(self, steps):
        self.steps = steps

    def begin(self, call):
        self.steps.append("begin limit")

    def end(self, call):
        self.steps.append("end limit")


class Output:
    def __init__(self, steps):
        self.steps = steps

    def flush(self):
        self.steps.append("flush output")

    def try_flush(self):
        self.steps.append("try to flush output")


class Interrupting:
    def __init__(self):
        self.insists = []

    def insist(self, call, *, anew=False):
        self.insists.append((call, anew))


class Cancelling:
    def __init__(self):
        self.parents = []

    def cancel_children(self, id):
        self.parents.append(id)


class Loan:
    blocked = 0
    resources = None

    def __init__(self):
        self.given_back = 0

    def renew(self, resources):
        self.resources = resources

    def give_back(self):
        self.given_back += 1


class Process:
    def __init__(self, monkeypatch):
        self.worker = worker = Worker()
        self.desk, self.peer, self.borrowing = worker.desk, worker.peer, worker.owner.borrowing
        self.replies, self.loan, self.code, self.gpus = Replies(), Loan(), CodeCache(), Gpus()
        self.steps, self.arguments = self.replies.steps, ArgumentCache()
        self.interrupting, self.cancelling, self.left, self.unblocked = Interrupting(), Cancelling(), 0, 0
        self.cancellations = Cancellations(
            worker.desk,
            worker.slot,
            self.replies,
            worker.owner.reports,
            self.interrupting,
            self.cancelling,
            lambda task: "named",
        )
        limits = Limits(self.steps)
        self.begin = Claiming(
            worker.desk, worker.actor, self.replies, worker.slot, self.gpus, limits, self.cancellations.refuse
        ).begin
        self.handler = self.signal = object()
        self.end = Finishing(
            worker.desk,
            worker.actor,
            worker.life,
            self.replies,
            limits,
            Output(self.steps),
            self.handler,
            self.leave,
        ).end
        self.intake = Intake(
            self, worker.desk, worker.actor, worker.life, worker.here, self.code, self.arguments, self.loan
        )
        monkeypatch.setattr(finishing, "getsignal", lambda number: self.signal)
        monkeypatch.setattr(finishing, "set_handler", lambda number, handler: setattr(self, "signal", handler))
        monkeypatch.setattr(claiming, "unblock_signals", self.unblock)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def unblock(self):
        self.unblocked += 1

    def leave(self):
        self.left += 1

    def push(self, *tasks, peer=None, frames=(), **facts):
        facts = {"resources": {"CPU": UNIT}, **facts}
        self.intake.on_push(peer or self.peer, wire.Push(tasks=list(tasks), **facts), frames)

    def cancel(self, number, **facts):
        self.cancellations.on_cancel(self.peer, wire.Cancel(task=id_of(number), **facts), ())


@pytest.fixture
def process(monkeypatch):
    return Process(monkeypatch)


def task(number, **facts):
    return wire.Task(id=id_of(number), **{"function": b"f", "args": b"", **facts})


def ended(ok=True):
    return Outcome(ok, [b"value"])


# --- pushes -----------------------------------------------------------------------------------------------------------


def test_a_push_becomes_calls_in_order(process):
    function = wire.Function(b"f", dump_function(len)[0], "len")
    process.push(task(1), task(2), functions=[function], depth=3)
    assert [call.task.id for call in process.worker.executor.submitted] == [id_of(1), id_of(2)]
    assert list(process.desk.queued.values()) == process.worker.executor.submitted
    assert process.code.load(b"f") is len
    assert process.worker.here.depth == 4
    assert process.desk.lessee is process.peer
    assert process.loan.resources == {"CPU": UNIT}
    assert type(process.worker.executor.submitted[0]) is TaskCall


def test_a_push_to_an_actor_is_no_lease(process):
    process.worker.become_actor()
    process.push(task(1, actor=b"actor"))
    assert (process.desk.lessee, process.loan.resources) == (None, None)


@pytest.mark.parametrize("facts", [{"gpu_ids": ["a\0b"]}, {}])
def test_what_cannot_be(process, facts):
    bad = wire.Task(id=b"short", function=b"f", args=b"") if not facts else task(1)
    with pytest.raises(RemoteProtocolError):
        process.push(bad, **facts)
    assert process.worker.executor.submitted == []


def test_arguments_that_were_refs_come_along(process):
    dependency = wire.Dependency(id=id_of(9) + bytes(4), address="owner", at=0, data=b"blob")
    process.push(task(1, deps=[dependency]))
    [call] = process.worker.executor.submitted
    assert call.values == [b"blob"]


def test_refs_in_arguments_are_held(process):
    ref = wire.Ref(id=id_of(9) + bytes(4), address="owner", credits=1)
    process.push(task(1, refs=[ref]))
    [call] = process.worker.executor.submitted
    assert [entry.id for entry in call.held] == [ref.id]


def test_another_attempt_takes_the_place_of_the_one_before(process):
    old = process.worker.start(1)
    process.push(task(1, attempt=1))
    assert old.abandoned
    assert process.desk.queued[id_of(1)] is not old


def test_a_blocked_worker_gives_back_at_once(process):
    process.loan.blocked = 1
    process.push(task(1))
    assert process.loan.given_back == 1
    process.worker.become_actor()
    process.push(task(2, actor=b"actor"))
    assert process.loan.given_back == 1


def test_a_process_that_ends_returns_all(process):
    process.worker.life.exiting = "enough"
    process.push(task(1))
    assert sent(process.peer) == [wire.Returned([id_of(1)])]
    process.worker.become_actor()
    process.worker.actor.announced = "enough"
    process.push(task(2, actor=b"actor"))
    assert sent(process.peer, wire.Replies) == [wire.Replies([], True, [id_of(2)], "enough")]
    assert process.worker.executor.submitted == []


def test_a_process_that_ends_keeps_nothing_of_what_comes(process):
    ref = wire.Ref(b"process9" + bytes(12), "other", 1)
    process.worker.life.exiting = "enough"
    process.push(task(1, refs=[ref]))
    table = process.worker.owner.table
    (entry,) = table.collect()
    assert (entry.id, entry.handed) == (ref.id, 1)


def test_an_actor_that_is_to_end_takes_its_end_and_no_more(process):
    process.worker.become_actor()
    process.push(task(1, actor=b"actor", function=TERMINATE_BYTES), task(2, actor=b"actor"))
    assert list(process.desk.queued) == [id_of(1)]
    assert sent(process.peer, wire.Replies)[-1].returned == [id_of(2)]


# --- cancels ----------------------------------------------------------------------------------------------------------


def test_a_call_that_has_not_begun_is_answered(process):
    call = process.worker.queue(1)
    process.cancel(1)
    assert (process.desk.queued, process.steps) == ({}, ["queue", "flush"])
    error = open_envelope(process.replies.outcomes[0].blobs[0])
    assert isinstance(error, TaskCancelledError)
    assert not call.cancelled
    assert not process.begin(call)


def test_a_call_that_is_cancelled_may_come_again(process):
    process.worker.queue(1)
    assert process.worker.slot.revoke_call(id_of(1))
    process.cancel(1)
    assert process.worker.slot.may_start(id_of(1))


def test_a_call_that_runs_is_interrupted_after_replies_are_safe(process):
    call = process.worker.start(1)
    process.worker.slot.memory[:16] = id_of(1)
    process.cancel(1)
    assert process.worker.slot.has_heard  # the node manager leaves it to this process
    assert (call.cancelled, process.steps, process.interrupting.insists) == (True, ["flush_all"], [(call, False)])
    process.cancel(1)
    assert len(process.interrupting.insists) == 1


def test_a_call_that_has_gone_on_is_interrupted_again_if_asked_for(process):
    call = process.worker.start(1)
    process.cancel(1)
    call.noticed = True
    process.cancel(1, again=True)
    assert process.interrupting.insists == [(call, False), (call, True)]
    assert not call.noticed


def test_what_a_call_has_submitted_is_cancelled_if_asked_for(process):
    call = process.worker.start(1)
    process.cancel(1, recursive=False)
    assert (process.cancelling.parents, call.recursive) == ([], False)
    process.cancel(1, recursive=True)
    assert (process.cancelling.parents, call.recursive) == ([id_of(1)], True)
    process.cancel(5, recursive=True)  # it has ended, and they go on
    assert process.cancelling.parents == [id_of(1), id_of(5)]


# --- beginnings -------------------------------------------------------------------------------------------------------


def test_a_call_begins(process):
    call = process.worker.queue(1)
    assert process.begin(call)
    assert (process.desk.queued, process.desk.running) == ({}, {id_of(1): call})
    assert process.desk.call is call
    assert process.desk.started == process.worker.slot.running == id_of(1)
    assert (process.steps, process.unblocked) == ([], 0)


def test_what_may_take_long_begins_when_replies_are_safe(process):
    assert process.begin(process.worker.queue(1, function=b"g"))
    assert (process.steps, process.unblocked) == (["secure"], 1)
    process.replies.long_ended = True
    assert process.begin(process.worker.queue(2))
    assert process.steps == ["secure", "secure"]


def test_an_actor_keeps_the_signals_that_it_has_blocked(process):
    process.worker.become_actor()
    assert process.begin(process.worker.queue(1, function=b"g"))
    assert (process.steps, process.unblocked) == (["secure"], 0)


def test_a_call_that_was_given_back_does_not_begin(process):
    call = process.worker.call(1)
    assert not process.begin(call)
    again = process.worker.queue(1)
    assert not process.begin(call)
    assert (process.desk.running, process.desk.queued) == ({}, {id_of(1): again})


def test_a_task_that_was_recalled_does_not_begin(process):
    process.worker.slot.revoke(b"recall".ljust(16))
    call = process.worker.queue(1)
    entry = process.worker.table.own(id_of(9) + bytes(4))
    entry.pins, call.held = 1, [entry]
    assert not process.begin(call)
    assert (process.desk.running, process.desk.queued, process.steps) == ({}, {}, [])
    assert entry.pins == 0
    assert process.worker.slot.running == bytes(16)


def test_a_call_of_an_actor_that_was_revoked_is_answered(process):
    process.worker.become_actor()
    call = process.worker.queue(1, actor=b"actor")
    assert process.worker.slot.revoke_call(id_of(1))
    assert not process.begin(call)
    assert process.steps == ["queue", "flush"]


def test_calls_that_overlap_are_not_the_one_that_runs(process):
    process.desk.concurrent = True
    assert process.begin(process.worker.queue(1))
    assert process.desk.call is None


def test_gpus_are_shown_to_tasks(process):
    call = process.worker.queue(1)
    call.gpu_ids = GPUS
    assert process.begin(call)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    call = process.worker.queue(2)
    assert process.begin(call)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_an_actor_keeps_its_gpus(process):
    process.worker.become_actor()
    process.gpus.show(GPUS)
    assert process.begin(process.worker.queue(1))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


def test_a_limit_begins_last(process):
    assert process.begin(process.worker.queue(1, timeout_s=1.0))
    assert process.steps == ["begin limit"]


# --- ends -------------------------------------------------------------------------------------------------------------


def begun(process, number=1, **facts):
    call = process.worker.queue(number, **facts)
    assert process.begin(call)
    process.steps.clear()
    return call


def test_a_call_ends(process):
    process.end(begun(process), ended(), 5)
    assert (process.desk.running, process.desk.call) == ({}, None)
    assert process.steps == ["flush output", "reply"]
    assert process.left == 0


def test_its_limit_ends_first(process):
    process.end(begun(process, timeout_s=1.0), ended(), 5)
    assert process.steps == ["end limit", "flush output", "reply"]


@pytest.mark.parametrize("mark", ["cancelled", "timed_out"])
def test_a_call_that_was_interrupted_does_not_wait_for_readers_of_what_it_printed(process, mark):
    call = begun(process)
    setattr(call, mark, True)
    process.end(call, ended(False), 5)
    assert process.steps == ["try to flush output", "reply"]


def test_a_call_that_nobody_waits_for_is_dropped(process):
    call = begun(process)
    process.desk.supersede(id_of(1))
    process.end(call, ended(), 5)
    assert (process.desk.overdue, process.steps) == (set(), ["flush output", "drop"])


def test_handlers_of_tasks_go_with_them(process):
    call = begun(process)
    process.signal = signal.SIG_IGN
    process.end(call, ended(), 5)
    assert process.signal is process.handler


def test_handlers_of_actors_stay(process):
    process.worker.become_actor()
    call = begun(process)
    process.signal = signal.SIG_IGN
    process.end(call, ended(), 5)
    assert process.signal is signal.SIG_IGN


def test_the_last_call_of_a_process_has_it_left(process):
    process.end(begun(process, 1, max_calls=2), ended(), 5)
    assert process.left == 0
    process.end(begun(process, 2, max_calls=2), ended(), 5)
    assert process.left == 1
    assert process.worker.life.exiting == "max_calls=2 was reached"


def test_a_call_that_runs_is_missed_by_no_cancel(process):
    """From its push to its end it is in one of the two."""
    seen, stop = [], threading.Event()

    def watch():
        while not stop.is_set():
            if not (id_of(1) in process.desk.queued or id_of(1) in process.desk.running):
                seen.append(1)

    call = process.worker.queue(1)
    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(200):
        assert process.begin(call)
        process.desk.queued[id_of(1)] = call
        del process.desk.running[id_of(1)]
    stop.set()
    thread.join()
    assert seen == []
