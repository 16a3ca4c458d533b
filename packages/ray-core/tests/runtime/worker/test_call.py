"""A call runs: what it asks of its worker, and what it tells it."""

import asyncio
import threading

import pytest
from tests.owners import NoStore
from tests.workers import Worker, id_of

from ray.messages import wire
from ray.protocol.references import LARGE_BYTES
from ray.runtime.interface import IN_THREAD
from ray.runtime.worker.arguments import SpilledArguments
from ray.runtime.worker.call import TaskCall, current_call
from ray.runtime.worker.outcome import Outcome
from ray.serialization import deserialize_aligned
from ray.serialization.pickling import args_blob


class Preparing:
    def __init__(self, function):
        self.function, self.in_thread = function, {}
        self.prepared, self.fetched = 0, []

    def target_of(self, task):
        if self.function is None:
            raise ValueError("no such method")
        return self.function

    def fetch(self, call):
        self.fetched.append(threading.current_thread())
        call.values = [0]

    def prepare(self, call):
        self.prepared += 1
        call.name = "f"
        return self.target_of(call.task), deserialize_aligned(call.task.args)


class Stored(NoStore):
    shared = True

    def __init__(self):
        super().__init__()
        self.ids = []

    def store_result(self, id, serialized):
        self.ids.append(id)


class Failing:
    def outcome_of(self, call, error):
        return Outcome(False, [error])


class Cancelling:
    def __init__(self):
        self.parents = []

    def cancel_children(self, id):
        self.parents.append(id)


class Host:
    """A worker that runs ``function``."""

    is_forked = False

    def __init__(self, function):
        self.worker = Worker()
        self.desk, self.lock, self.borrowing = self.worker.desk, self.worker.lock, self.worker.owner.borrowing
        self.preparing, self.failing, self.cancelling = Preparing(function), Failing(), Cancelling()
        self.values = NoStore()
        self.spilled_arguments = SpilledArguments(self.values)
        self.may_begin, self.ended, self.seen = True, [], []

    def begin(self, call):
        if self.may_begin:
            self.desk.running[call.task.id] = call
        return self.may_begin

    def end(self, call, outcome, duration_us):
        self.ended.append((outcome.ok, outcome.blobs[0] if not outcome.ok else deserialize_aligned(outcome.blobs[0])))

    def block(self, waiter, timeout_s):
        raise AssertionError("nobody waits")

    def call(self, *args, **facts):
        task = wire.Task(id=id_of(1), function=b"f", args=args_blob(args, {}), **facts)
        return TaskCall(self, self.worker.peer, task, (), wire.Push(tasks=[task], resources={}))


def double(value):
    return 2 * value


def broken():
    raise ValueError("no")


def test_a_result_is_handed_on():
    host = Host(double)
    host.call(4).run()
    assert host.ended == [(True, 8)]


@pytest.mark.parametrize("near", [True, False])
def test_what_has_to_come_from_another_node_does_not_hold_up_the_loop(near):
    async def twice(value):
        return 2 * value

    host = Host(twice)
    host.worker.peer = host.worker.peer_at("owner", near=near)
    dependency = wire.Dependency(at=0, data=None, id=bytes(20), address="")
    call = host.call(4, deps=[dependency])
    call.values = [None]
    asyncio.run(call.run_async())
    assert host.ended == [(True, 8)]
    assert [thread is threading.current_thread() for thread in host.preparing.fetched] == ([] if near else [False])


def test_what_has_come_from_another_node_needs_no_thread():
    async def twice(value):
        return 2 * value

    host = Host(twice)
    host.worker.peer = host.worker.peer_at("owner", near=False)
    call = host.call(4, deps=[wire.Dependency(at=0, data=b"1", id=bytes(20), address="")])
    call.values = [b"1"]
    asyncio.run(call.run_async())
    assert (host.ended, host.preparing.fetched) == ([(True, 8)], [])


@pytest.mark.parametrize("near", [True, False])
def test_a_large_result_is_stored_for_a_caller_of_this_node_only(near):
    host = Host(lambda: b"x" * LARGE_BYTES)
    host.values = Stored()
    host.worker.peer = host.worker.peer_at("owner", near=near)
    host.end = lambda call, outcome, duration_us: host.ended.append(outcome.blobs[0])
    host.call().run()
    [blob] = host.ended
    assert (blob is None, len(host.values.ids)) == (near, int(near))


def test_an_error_is_handed_on():
    host = Host(broken)
    host.call().run()
    [(ok, error)] = host.ended
    assert (ok, type(error)) == (False, ValueError)


def test_a_call_that_may_not_begin_does_nothing():
    host = Host(broken)
    host.may_begin = False
    call = host.call()
    call.run()
    call.fail(ValueError())
    assert (host.preparing.prepared, host.ended) == (0, [])


def test_a_call_that_could_not_be_run_fails_once():
    host = Host(double)
    host.call(1).fail(ValueError("no thread"))
    assert [ok for ok, _ in host.ended] == [False]


@pytest.mark.parametrize("concurrent", [False, True])
def test_calls_that_overlap_know_which_they_are(concurrent):
    seen = []
    host = Host(lambda: seen.append(current_call.get()))
    host.desk.concurrent = concurrent
    call = host.call()
    call.run()
    assert seen == [call if concurrent else None]
    assert current_call.get() is None


def test_it_may_be_interrupted_while_the_users_code_runs_alone():
    seen = []
    host = Host(lambda: seen.append(call.interruptible))
    call = host.call()
    assert not call.interruptible
    call.run()
    assert (seen, call.interruptible) == ([True], False)


def test_an_interrupt_that_came_while_it_was_prepared():
    host = Host(broken)
    call = host.call()
    call.cancelled = True
    call.run()
    [(ok, error)] = host.ended
    assert (ok, type(error), call.noticed) == (False, KeyboardInterrupt, True)


def test_what_it_has_submitted_is_cancelled_with_it_once():
    host = Host(double)
    call = host.call(1)
    call.recursive = True
    call.notice()
    call.notice()
    assert host.cancelling.parents == [id_of(1)]


def test_a_coroutine_runs_on_its_loop():
    async def twice(value):
        await asyncio.sleep(0)
        return 2 * value

    host = Host(twice)
    call = host.call(4)
    assert call.is_async
    asyncio.run(call.run_async())
    assert host.ended == [(True, 8)]
    assert call.coroutine is None


def test_a_coroutine_is_cancelled_once():
    async def waits():
        call.interrupt()
        call.interrupt()
        await asyncio.sleep(60)

    host = Host(waits)
    call = host.call()
    asyncio.run(call.run_async())
    [(ok, error)] = host.ended
    assert (ok, type(error), call.noticed) == (False, asyncio.CancelledError, True)


def test_a_target_that_is_not_found_is_reported_on_the_loop():
    host = Host(None)
    call = host.call()
    assert (call.is_async, call.in_thread, host.preparing.in_thread) == (True, False, {})


def test_a_method_that_asks_for_a_thread_is_asked_once():
    def method():
        return threading.get_ident()

    setattr(method, IN_THREAD, True)
    host = Host(method)
    assert host.call().in_thread
    host.preparing.function = None
    assert host.call().in_thread
