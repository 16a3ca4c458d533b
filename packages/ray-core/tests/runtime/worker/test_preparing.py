"""Functions and arguments as they come out of messages."""

import pytest
from tests.owners import NoStore
from tests.workers import Worker

from ray.exceptions import ObjectLostError, OwnerDiedError, RaySystemError
from ray.messages import wire
from ray.runtime.worker.code_cache import CodeCache
from ray.runtime.worker.preparing import Preparing
from ray.serialization import EMPTY_ARGS
from ray.serialization.pickling import args_blob, dump_function, serialize_small

HASH = b"hash"
#: Of the node of the worker's peer.
OBJECT = b"owner   " + bytes(12)


class Store(NoStore):
    def __init__(self):
        super().__init__()
        self.blobs = {}

    def stored_blob(self, id):
        if id not in self.blobs:
            raise ObjectLostError(id, "it is not there")
        return self.blobs[id]


class Losses:
    def of_object(self, id, address, error):
        return OwnerDiedError(id, address)


class Actor:
    def twice(self, value):
        return 2 * value


def double(value, by=2):
    return value * by


class Process:
    def __init__(self):
        self.worker, self.values, code = Worker(), Store(), CodeCache()
        code.add(wire.Function(HASH, dump_function(double)[0], "double"), ())
        self.preparing = Preparing(code, self.worker.actor, self.values, Losses(), self.blob_of)
        #: What other processes have.
        self.elsewhere = {}

    def blob_of(self, id, address):
        return self.elsewhere[id, address]

    def call(self, args=EMPTY_ARGS, **facts):
        call = self.worker.start(1, args=args, **{"function": HASH, **facts})
        call.frames, call.values, call.name = (), [None for _ in call.task.deps], ""
        return call

    def result(self, *args, **facts):
        self.prepared = self.call(*args, **facts)
        function, (positional, named) = self.preparing.prepare(self.prepared)
        return function(*positional, **named)


@pytest.fixture
def process():
    return Process()


def arguments(*args, **kwargs):
    return args_blob(args, kwargs)


def dependency(id, at=0):
    """An argument that was a ref, and that nothing was sent of."""
    return wire.Dependency(id=id, address="owner", at=at, data=None)


def test_a_function_and_its_arguments(process):
    assert process.result(arguments(3, by=4)) == 12
    assert process.prepared.name == "double"


def test_no_arguments_need_no_unpickling(process):
    assert process.preparing.prepare(process.call())[1] == ((), {})


def test_stored_arguments(process):
    process.values.blobs[b"stored"] = arguments(5)
    assert process.result(b"", stored=b"stored") == 10


def test_a_ref_that_is_stored(process):
    process.values.blobs[OBJECT] = serialize_small(6)
    assert process.result(arguments(None), deps=[dependency(OBJECT)]) == 12


@pytest.mark.parametrize(("owner", "kind"), [(b"owner   ", ObjectLostError), (b"owneroth", OwnerDiedError)])
def test_a_ref_that_is_lost(process, owner, kind):
    with pytest.raises(kind) as failure:
        process.result(arguments(None), deps=[dependency(owner + bytes(12))])
    assert type(failure.value) is kind


def test_what_a_near_caller_believes_to_be_kept_of_another_node_is_asked_for(process):
    """Another process may have had it forgotten."""
    elsewhere = b"theother" + bytes(12)
    process.elsewhere[elsewhere, "owner"] = serialize_small(6)
    assert process.result(arguments(None), deps=[dependency(elsewhere)]) == 12


# --- a caller on another node -----------------------------------------------------------------------------------------


@pytest.fixture
def far(process):
    """The same, called from there: what is in the store here is never meant."""
    process.worker.peer = process.worker.peer_at("owner", near=False)
    process.values.blobs = {OBJECT: b"another", b"stored": b"another"}
    return process


def test_stored_arguments_of_another_node_are_asked_for(far):
    far.elsewhere[b"stored", "owner"] = arguments(5)
    assert far.result(b"", stored=b"stored") == 10


def test_what_was_not_sent_along_from_another_node_is_asked_for(far):
    far.elsewhere[OBJECT, "owner"] = serialize_small(6)
    assert far.result(arguments(None, by=3), deps=[dependency(OBJECT)]) == 18


def test_what_was_fetched_ahead_is_not_asked_for_again(far):
    far.elsewhere = {(OBJECT, "owner"): serialize_small(6), (b"stored", "owner"): arguments(None)}
    call = far.call(b"", stored=b"stored", deps=[dependency(OBJECT)])
    far.preparing.fetch(call)
    far.elsewhere.clear()
    function, (positional, named) = far.preparing.prepare(call)
    assert function(*positional, **named) == 12


def test_what_is_kept_of_another_node_is_not_asked_for(far):
    call = far.call(arguments(None), deps=[dependency(OBJECT)])
    call.values = [serialize_small(6)]
    function, (positional, named) = far.preparing.prepare(call)
    assert function(*positional, **named) == 12


def test_a_function_that_was_not_sent(process):
    with pytest.raises(RaySystemError):
        process.preparing.target_of(wire.Task(id=bytes(16), function=b"other", args=b""))


def test_a_name_that_the_caller_has_given(process):
    process.result(arguments(1), name="given")
    assert process.prepared.name == "given"


def test_a_method(process):
    process.worker.become_actor()
    process.worker.actor.instance = Actor()
    assert process.result(arguments(4), function=b"twice", actor=b"actor") == 8
    assert process.prepared.name == "A.twice"


def test_a_group_that_the_actor_has_not(process):
    process.worker.become_actor()
    process.worker.actor.instance = Actor()
    with pytest.raises(ValueError, match="other"):
        process.result(arguments(4), function=b"twice", actor=b"actor", group="other")
