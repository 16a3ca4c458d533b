"""A worker that becomes an actor, and what becomes of it."""

import os
import threading

import pytest
from tests.workers import Calls, Worker, actor_to_start, sent

from ray.exceptions import RayActorError
from ray.messages import node, wire
from ray.protocol.last_calls import TERMINATE, TERMINATE_BYTES
from ray.runtime.worker.actor_exit import ActorExit
from ray.runtime.worker.actor_maker import ActorMaker
from ray.runtime.worker.becoming import Becoming
from ray.runtime.worker.code_cache import ArgumentCache
from ray.runtime.worker.gpus import Gpus
from ray.serialization import open_envelope
from ray.serialization.pickling import args_blob, dump_function, serialize_small


class Actor:
    def __init__(self, value):
        self.value = value

    def get(self):
        return self.value


class Broken:
    def __init__(self):
        raise ValueError("no")


class Leaves:
    def __init__(self):
        raise ActorExit


class Threads:
    held = None

    def set_for(self, resources):
        self.held = resources


class Ending:
    def __init__(self):
        self.begun = 0
        self.left = 0

    def begin(self):
        self.begun += 1

    def after_last_call(self):
        self.left += 1


class Process:
    """A worker that the node manager makes an actor."""

    def __init__(self):
        self.worker = Worker()
        worker = self.worker
        self.ending, self.threads, self.gpus = Ending(), Threads(), Gpus()
        self.made, self.guarded, self.blobs = [], [], {}
        maker = ActorMaker(
            worker.here,
            worker.actor,
            worker.slot,
            self.gpus,
            ArgumentCache(),
            lambda id, address: self.blobs[id, address],
            worker.told.append,
            self.ending.after_last_call,
        )
        self.becoming = Becoming(
            worker.here,
            worker.desk,
            worker.actor,
            self.threads,
            self.ending,
            maker,
            self.make_executor,
            lambda: self.guarded.append(threading.get_ident()),
        )

    def make_executor(self, spec):
        self.made.append(spec)
        return Calls()

    def start(self, cls, *args, gpu_ids=(), **facts):
        """Have the node manager send it, and return the call that makes the instance."""
        worker = self.worker
        facts = {"code": dump_function(cls)[0], "args": args_blob(args, {}), "depth": 3, **facts}
        self.becoming.on_start_actor(actor_to_start(gpu_ids, **facts))
        return worker.desk.executor.submitted[-1]

    def said(self, kind):
        return [message for message in self.worker.told if type(message) is kind]


@pytest.fixture
def process():
    return Process()


def task(method):
    return wire.Task(id=bytes(16), function=method, args=b"", actor=b"actor")


def test_a_serial_actor_keeps_the_executor(process):
    worker = process.worker
    process.start(Actor, 1)
    assert (process.made, worker.desk.concurrent, worker.executor.closed) == ([], False, False)
    assert worker.here.depth == 4
    assert process.threads.held == {"CPU": 10000}
    assert (worker.actor.id, worker.actor.name, worker.actor.resources) == (b"actor", "A", {"CPU": 1.0})


@pytest.mark.parametrize("facts", [{"is_async": True}, {"max_concurrency": 2}, {"groups": {"io": 1}}])
def test_another_executor_takes_over_where_calls_overlap(process, facts):
    worker = process.worker
    call = process.start(Actor, 1, **facts)
    assert [spec.id for spec in process.made] == [b"actor"]
    assert worker.desk.concurrent
    assert worker.executor.closed
    assert worker.desk.next_executor.submitted == [call]


def test_the_first_call_makes_the_instance(process, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    worker = process.worker
    call = process.start(Actor, 7, gpu_ids=["3"])
    assert (call.name, call.is_async, call.in_thread) == ("A.__init__", True, False)
    assert not worker.slot.has_begun_actor
    call.run()
    assert worker.slot.has_begun_actor
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert worker.actor.method_of(task(b"get"))() == 7
    assert process.said(node.ActorStarted) == [node.ActorStarted(b"actor")]
    assert worker.actor.creating_thread == 0


def test_arguments_that_are_stored(process):
    process.blobs[b"stored", "me"] = args_blob((8,), {})
    process.start(Actor, stored=b"stored").run()
    assert process.worker.actor.method_of(task(b"get"))() == 8


def test_arguments_that_were_refs(process):
    process.blobs[bytes(20), "me"] = serialize_small(9)
    dependency = wire.Dependency(id=bytes(20), address="me", at=0, data=None)
    process.start(Actor, None, deps=[dependency]).run()
    assert process.worker.actor.method_of(task(b"get"))() == 9


def test_methods_of_an_actor_whose_init_failed_fail_with_its_error(process):
    process.start(Broken).run()
    [started] = process.said(node.ActorStarted)
    assert isinstance(open_envelope(started.error), ValueError)
    with pytest.raises(RayActorError) as failure:
        process.worker.actor.method_of(task(b"get"))
    assert isinstance(failure.value.__cause__, ValueError)
    assert process.worker.actor.creating_thread == 0


def test_a_first_call_that_could_not_be_run(process):
    process.start(Actor, 1).fail(RuntimeError("no threads"))
    [started] = process.said(node.ActorStarted)
    assert "no threads" in str(open_envelope(started.error))


def test_an_init_that_ends_the_actor(process):
    process.start(Leaves).run()
    assert process.said(node.ActorStarted) == []
    assert [message.reason for message in process.said(node.ActorExiting)] == ["exit_actor() was called"]
    assert process.worker.life.exiting == process.worker.actor.announced == "exit_actor() was called"
    assert process.ending.left == 1


def test_a_loop_is_guarded_once_the_instance_is_there(process):
    call = process.start(Actor, 1, is_async=True)
    with pytest.raises(StopIteration):
        call.run_async().send(None)
    assert process.guarded == [threading.get_ident()]


def test_an_actor_that_is_to_end_does_so_behind_its_calls(process):
    worker = process.worker
    process.start(Actor, 1).run()
    worker.queue(5)
    process.becoming.on_terminate()
    assert worker.desk.closing.refuses()
    assert (worker.life.exiting, process.ending.begun) == ("", 0)
    last = worker.executor.submitted[-1]
    assert last.name == TERMINATE
    last.run()
    assert worker.life.exiting
    assert (process.ending.begun, process.ending.left) == (0, 1)


def test_an_idle_actor_that_is_to_end_says_so_at_once(process):
    process.start(Actor, 1).run()
    process.becoming.on_terminate()
    assert [type(message) for message in process.worker.told[-1:]] == [node.ActorExiting]
    assert process.ending.begun == 1


def test_the_last_call_ends_the_actor(process):
    worker = process.worker
    process.start(Actor, 1).run()
    worker.actor.method_of(task(TERMINATE_BYTES))()
    assert worker.actor.announced
    assert sent(worker.peer) == []


def test_what_the_context_tells(process):
    actor = process.worker.actor
    assert actor.facts() == {"actor_id": b"", "resources": {}}
    process.start(Actor, 1, name="known")
    assert actor.facts() == {"actor_id": b"actor", "resources": {"CPU": 1.0}, "actor_name": "known", "restarts": 2}


def test_the_destructor_runs_when_the_instance_is_dropped(process):
    process.start(Actor, 1).run()
    process.worker.actor.drop()
    assert process.worker.actor.instance is None


def test_gpus_are_hidden_once_they_have_been_shown(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "all")
    gpus = Gpus()
    gpus.show([])
    gpus.ids = None
    gpus.show([])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "all"
    gpus.show(["1", "2"])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,2"
    gpus.show([])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
