"""Steps that no finaliser comes into: on Python 3.11 the collector runs wherever an object is made that it watches."""

from __future__ import annotations

import ctypes
import gc
from collections import deque
from itertools import starmap

import pytest
import zmq

from ray_transport_zmq import native
from ray_transport_zmq.incoming import Incoming, Notes
from ray_transport_zmq.outgoing import Outgoing, walk

SIZES = [0, 1, 1_000, 300_000]


class Finalised:
    """Garbage that notes how many results there were when it was collected."""

    def __init__(self, found, seen):
        self.me = self
        self.found, self.seen = found, seen

    def __del__(self):
        self.seen.append(len(self.found))


@pytest.fixture
def sockets():
    context = zmq.Context()
    one, two = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    one.set(zmq.IDENTITY, b"one")
    two.set(zmq.IDENTITY, b"two")
    for socket in (one, two):
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.ROUTER_MANDATORY, 1)
    two.bind("inproc://steps")
    one.set(zmq.CONNECT_ROUTING_ID, b"two")
    one.connect("inproc://steps")
    yield one, two
    context.destroy(0)


def collected_in(make):
    """Run ``deque.extend(make())``; returns what it yields, and whether the collector ran before the last of that."""
    seen: list[int] = []
    found: deque[object] = deque()
    gc.collect()
    gc.disable()
    calls = make()
    Finalised(found, seen)
    kept = [(number,) * length for length in range(1, 10) for number in range(3_000)]  # no tuple is left to use again
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    gc.enable()
    found.extend(calls)
    gc.disable()
    gc.set_threshold(*thresholds)
    del kept
    gc.enable()
    gc.collect()
    assert len(seen) == 1
    return list(found), seen[0] < len(found)


def handle(socket):
    return ctypes.c_void_p(socket.underlying)


@pytest.mark.parametrize("nbytes", SIZES)
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_unit_leaves_in_one_step(sockets, nbytes, pieces):
    one, two = sockets
    parts = [b"head", memoryview(b"x" * nbytes)][-pieces:]
    outgoing = Outgoing(handle(one))
    steps = outgoing.steps(b"two", (nbytes, parts))
    made, collected = collected_in(lambda: walk(steps))
    assert len(made) == len(steps) + 1, "each step, and the error that nobody needs"
    assert not collected
    assert two.recv_multipart() == [b"one", *map(bytes, parts)]


def test_a_unit_that_nobody_takes_is_refused_in_one_step(sockets):
    steps = Outgoing(handle(sockets[0])).steps(b"nobody", (1, [b"x"]))
    made, collected = collected_in(lambda: walk(steps))
    assert made[-1] == zmq.EHOSTUNREACH
    assert len(made) <= len(steps)
    assert not collected


@pytest.mark.parametrize("nbytes", SIZES)
def test_a_part_is_received_in_one_step(sockets, nbytes):
    one, two = sockets
    memory = native.Memory(max(SIZES))
    most = memory.receiving(handle(two), max(SIZES))
    for _ in range(2):
        one.send_multipart([b"two", b"y" * nbytes])
        assert collected_in(lambda: memory.take(most)) == ([b"one"], False)
        assert collected_in(lambda: memory.take(most)) == ([b"y" * nbytes], False)
    assert collected_in(lambda: memory.take(most, 1)) == ([], False)


def test_options_are_read_and_set_in_one_step(sockets):
    one, two = sockets
    number = native.Number(handle(two), zmq.RCVMORE)
    one.send_multipart([b"two", b"z"])
    assert two.recv() == b"one"
    assert collected_in(lambda: starmap(native.get_option, (number.arguments,))) == ([0], False)
    assert number.value == 1
    named = (handle(one), native.NAME, b"again", 5)
    assert collected_in(lambda: starmap(native.set_option, (named,))) == ([0], False)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("nbytes", SIZES)
def test_whole_units_arrive(sockets, nbytes, known):
    one, two = sockets
    incoming = Incoming(handle(two), [b"one"] if known else [])
    one.send_multipart([b"two", b"head", b"w" * nbytes])
    unit = incoming.receive()
    assert unit is not None
    data = [part if type(part) is bytes else part.bytes for part, *_ in unit[1:]]
    assert [unit[0], *data] == [b"one", b"head", b"w" * nbytes]
    incoming.unit = []
    assert incoming.receive() is None


def test_notes_arrive_in_pairs(sockets):
    one, two = sockets
    notes = Notes(handle(two))
    one.send_multipart([b"two", b"event"])
    assert notes.first() == (b"one", b"event")
