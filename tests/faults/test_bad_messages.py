"""A peer's message that cannot be handled costs that peer its connection, and nobody else anything."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Iterator

import msgspec
import psutil
import pytest
from tests.faults.rude_peer import KINDS, Mutations, RudePeer

import ray
from ray.messages import codec, node, wire
from ray.testing import leaks
from ray.testing.contracts._expect import eventually


@ray.remote
class Steady:
    def pid(self):
        return os.getpid()


@ray.remote
def double(x):
    return 2 * x


class Session:
    """A live session, and what must not change in it."""

    def __init__(self) -> None:
        self.context = ray.init(num_cpus=2, log_to_driver=False)
        self.steady = Steady.remote()
        self.ref = ray.put(7)
        self.pid = ray.get(self.steady.pid.remote(), timeout=20)
        self.manager = psutil.Process(ray.nodes()[0]["Pid"])
        self.free = ray.available_resources()

    def path(self, end: str) -> str:
        """The socket of the driver, of the node manager, or of the actor's process."""
        folder = self.context.address_info["session_dir"]
        names = {"driver": "driver", "node": "node"}
        if end in names:
            return os.path.join(folder, f"{names[end]}.sock")
        with open("/proc/net/unix") as table:
            paths = {fields[6]: fields[7] for line in table if len(fields := line.split()) == 8}
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            target = os.readlink(f"/proc/{self.pid}/fd/{fd}")
            path = paths.get(target.removeprefix("socket:[").rstrip("]"), "")
            if os.path.basename(path).startswith("w-"):
                return path
        raise AssertionError("the actor's process does not listen")

    def check(self) -> None:
        """Every process lives, works, and has what it had."""
        assert ray.get([double.remote(n) for n in range(4)], timeout=30) == [0, 2, 4, 6]
        assert ray.get(self.steady.pid.remote(), timeout=30) == self.pid
        assert ray.get(double.remote(self.ref), timeout=30) == 14
        assert ray.nodes()[0]["Pid"] == self.manager.pid

    def check_free(self) -> None:
        """What was given to a peer comes back when it has gone."""
        eventually(lambda: ray.available_resources() == self.free, "all resources are free again", 30)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    before = leaks.snapshot()
    made = Session()
    yield made
    try:
        made.check()
    finally:
        del made
        ray.shutdown()
    leaks.assert_clean(before)


@pytest.fixture(autouse=True)
def nothing_left(session: Session) -> None:
    """The session is looked at when the last test of the module has ended."""


def mutate(session: Session, end: str, seed: int, peers: int, each: int) -> None:
    rng = random.Random(seed)
    mutations = Mutations(seed, [session.ref.binary()])
    path = session.path(end)
    for kind in KINDS:
        if kind is node.Stop:  # it means what it says
            continue
        for _ in range(2 if kind is node.CreateActor else peers):  # which starts a process
            with RudePeer(session.context, path, rng.choice(("driver", "observer", "node"))) as peer:
                for _ in range(each):
                    if not peer.send(*mutations.message(kind)):
                        break
    session.check()


@pytest.mark.parametrize("end", ["node", "driver", "worker"])
def test_every_kind_of_message_with_odd_values(session, end):
    processes = [psutil.Process(), session.manager, psutil.Process(session.pid)]
    before = [process.memory_info().rss for process in processes]
    mutate(session, end, seed=1, peers=6, each=4)
    grown = [process.memory_info().rss - was for process, was in zip(processes, before, strict=True)]
    assert max(grown) < 100 << 20
    session.check_free()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("end", ["node", "driver", "worker"])
def test_every_kind_of_message_with_odd_values_again(session, end, seed):
    mutate(session, end, seed, peers=20, each=4)
    session.check_free()


def actor(**changes: object) -> node.ActorSpec:
    spec = node.ActorSpec(os.urandom(16), "Odd", b"", b"", b"", "unix:/nowhere", {}, {"CPU": 10_000}, b"")
    return msgspec.structs.replace(spec, **changes)


#: {what: (the receiver, the message)}; the connection has to end.
REFUSED = {
    "a question without data": ("node", node.Question(1, "actor")),
    "a question after failures of no job": ("node", node.Question(1, "errors", codec.encode("names"))),
    "a question with other data": ("node", node.Question(1, "actor", codec.encode(["x", 5]))),
    "demand for less than nothing": ("node", node.Demand(1, {"CPU": -10_000}, 1)),
    "less than no demand": ("node", node.Demand(1, {"CPU": 10_000}, -1)),
    "demand for too many": ("node", node.Demand(1, {}, 1 << 40)),
    "demand from far too deep": ("node", node.Demand(1, {}, 1, 1 << 63)),
    "an actor that lives on less than nothing": ("node", node.CreateActor(1, actor(resources={"CPU": -1}))),
    "an actor that needs more later": ("node", node.CreateActor(1, actor(resources={"CPU": 30_000}))),
    "an actor with another GPU later": ("node", node.CreateActor(1, actor(placement={"GPU": 10_000}))),
    "ready, but no worker": ("node", node.Ready(b"12345678", "unix:/nowhere")),
    "a message for others": ("node", wire.Recall()),
    "a negative index": ("driver", wire.Yielded(bytes(16), -1, b"")),
    "an index past the last": ("driver", wire.Yielded(bytes(16), 1 << 32, b"")),
    "the yield of a task of a short id": ("driver", wire.Yielded(b"x", 0, b"")),
    "a status that is none": ("driver", wire.Fetched(bytes(20), 77, b"")),
    "a ref with a short id": ("driver", wire.Fetched(bytes(20), 1, b"", [wire.Ref(b"x", "unix:/nowhere")])),
    "a task of a short id": ("worker", wire.Push([wire.Task(b"x", b"pid", b"")])),
    "a task with no number for its time": ("worker", wire.Push([wire.Task(bytes(16), b"", b"", timeout_s=math.nan)])),
    "a frame that is not there": ("worker", wire.Push([], [wire.Function(b"x", 3)])),
    "a frame before the first": ("worker", wire.Push([], [wire.Function(b"x", -1)])),
    "a GPU of no name": ("worker", wire.Push([wire.Task(bytes(16), b"pid", b"")], gpu_ids=["\0"])),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_handled_ends_the_connection_only(session, what):
    end, message = REFUSED[what]
    with RudePeer(session.context, session.path(end)) as peer:
        assert peer.send(codec.encode(message))
        assert peer.is_hung_up_on()
    session.check()


@pytest.mark.slow
def test_the_id_of_another_actor_is_taken(session):
    """It is answered, and the actor is not replaced."""
    with RudePeer(session.context, session.path("node")) as peer:
        spec = actor(placement={"no such thing": 1})  # so that it is never placed
        for request, address in ((1, "unix:/nowhere"), (2, "unix:/elsewhere")):
            assert peer.send(codec.encode(node.CreateActor(request, msgspec.structs.replace(spec, address=address))))
        answers = [message for message in peer.messages(6) if isinstance(message, node.Answer)]
        assert [answer.ok for answer in answers] == [True, False]
        assert "already" in answers[1].error
    session.check()


def test_nobody_takes_the_place_of_a_process_that_is_connected(session):
    """Nor does the end of the process that tries."""
    with RudePeer(session.context, session.path("node")) as first:
        [welcome] = first.welcome
        for kind in ("driver", "observer", "node", "worker"):
            with RudePeer(session.context, session.path("node"), kind, welcome.process) as second:
                assert second.is_hung_up_on()
        assert first.send(codec.encode(node.Ping(5)))
        assert any(isinstance(message, node.Pong) for message in first.messages(2))
    session.check()


CONTRADICTIONS = {
    "protocol": {"protocol": 1},
    "session": {"session": "another"},
    "node": {"node": 5},
    "job": {"job": "another"},
    "plan": {"digest": "0123456789abcdef0123456789abcdef"},
    "process": {"to": b"somebody"},
}


@pytest.mark.parametrize("end", ["node", "driver", "worker"])
@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_who_contradicts_in_hello_is_not_heard(session, end, what):
    if (end, what) == ("node", "process"):
        pytest.skip("a caller that dials a node manager wants the node manager")
    if what == "job" and end != "node":
        pytest.skip("jobs meet")
    with RudePeer(session.context, session.path(end), **CONTRADICTIONS[what]) as peer:
        peer.send(codec.encode(node.Question(1, "held", msgspec.msgpack.encode([]))))  # it may have hung up already
        assert peer.messages(1) == []
        assert peer.is_hung_up_on()
    session.check()


def test_trouble_is_told_once_a_second(session, capfd):
    """However many there are, with the number of those that were not told."""
    lines: list[str] = []
    began = time.monotonic()
    sent = 0
    while sent < 300 or not any("unexpected Ping" in line for line in lines):  # another one may just have been told
        with RudePeer(session.context, session.path("driver")) as peer:
            peer.send(codec.encode(node.Ping(1)))
            assert peer.is_hung_up_on()
        sent += 1
        lines += [line for line in capfd.readouterr().err.splitlines() if "dropping a connection" in line]
    assert len(lines) <= time.monotonic() - began + 2


@pytest.mark.parametrize("end", ["node", "driver", "worker"])
def test_what_follows_a_bad_message_is_not_heard(session, end):
    """Though it has come along with it: a client that was dropped has nothing, and is given nothing."""
    bad = codec.encode(node.Pong(1))
    demands = [codec.encode(node.Demand(number, {}, 1000)) for number in range(5)]
    for _ in range(5):
        with RudePeer(session.context, session.path(end)) as peer:
            peer.send_together([bad, *demands, codec.encode(wire.Fetch(session.ref.binary()))])
            assert peer.is_hung_up_on()
    session.check()
    session.check_free()


def test_a_driver_waits_until_it_is_welcome(session):
    with RudePeer(session.context, session.path("node"), kind="nobody") as peer:
        peer.send_together([peer.hello(session.context, "driver"), codec.encode(node.Ping(1))])
        assert peer.messages(1) == []
        assert peer.is_hung_up_on()
    session.check()


def test_nobody_stops_the_node_of_another_driver(session):
    with RudePeer(session.context, session.path("node")) as peer:
        peer.send(codec.encode(node.Stop()))
        assert peer.is_hung_up_on()
    session.check()


def test_hello_is_heard_once(session):
    """Not after something else."""
    with RudePeer(session.context, session.path("node"), kind="nobody") as peer:
        peer.send_together([peer.hello(session.context, "observer"), codec.encode(node.Ping(1))])
        assert peer.messages(1) == []
    session.check()
