"""Nothing is lost, dropped or overtaken, however slow the receiver is; no peer waits for another one without need."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time

import pytest
import zmq

from ray.testing import eventually
from ray.testing.contracts._link import Reader
from ray_transport_zmq import credit, sockets, wire
from ray_transport_zmq.options import ZmqOptions
from ray_transport_zmq.transport import ZmqTransport

MIB = 1024 * 1024


@pytest.fixture(params=["ipc", "tcp"])
def pair(request, folders):
    """``(server, client, address)``; nobody polls yet."""
    folder = folders()
    server, client = (ZmqTransport(folder, ZmqOptions(scheme=request.param)) for _ in range(2))
    yield server, client, server.listen("server")
    client.close()
    server.close()


def introduced(pair):
    """A connection whose first message, which must be small, has arrived."""
    server, client, address = pair
    with Reader(server) as at_server, Reader(client):
        out = client.dial(address)
        out.send([b"hello"])
        at_server.wait(1, "it arrives")
        eventually(lambda: out.queued_bytes == 0)
    return out


def test_a_receiver_that_does_not_poll_holds_the_sender_back(pair):
    """ZeroMQ holds a window; the rest stays here and is counted. Nothing is lost in between."""
    server, client, address = pair
    out = client.connect(address)
    for number in range(20_000):
        out.send([b"%d" % number, b"x" * 90])
    with Reader(client), Reader(server) as at_server:
        seen = at_server.wait(20_000, "all arrive")
        assert [int(frames[0]) for frames in seen] == list(range(20_000))
        eventually(lambda: out.queued_bytes == 0)


def test_what_is_queued_is_counted(pair):
    server, client, _ = pair
    out = introduced(pair)
    assert out.queued_bytes == 0
    for _ in range(40):
        out.send([bytes(MIB)])
    client.poll(0)
    assert 40 * MIB - credit.WINDOW_BYTES - wire.PIECE_BYTES <= out.queued_bytes <= 40 * MIB
    with Reader(client), Reader(server) as at_server:
        at_server.wait(40, "all arrive")
        eventually(lambda: out.queued_bytes == 0)


def test_one_slow_receiver_does_not_hold_up_another(pair, folders):
    server, client, address = pair
    other = ZmqTransport(server._dir, server._options)
    slow = client.connect(address)
    quick = client.connect(other.listen("other"))
    for _ in range(5000):
        slow.send([b"x" * 1000])
    with Reader(client), Reader(other) as at_other:
        for number in range(1000):
            quick.send([b"%d" % number])
        at_other.wait(1000, "the other's messages arrive")
        assert slow.queued_bytes > 0
        slow.abort()
    other.close()


def test_both_ends_may_be_in_the_middle_of_large_messages(pair):
    """Credits travel between the pieces of a message."""
    server, client, address = pair
    large = os.urandom(MIB) * 24
    out = client.connect(address)
    out.send([b"hello"])
    with Reader(server) as at_server:
        at_server.wait(1, "it arrives")
    accepted = at_server.events[0][0]
    for number in range(2):
        out.send([b"%d" % number, large])
        accepted.send([b"%d" % number, large])
    out.send([b"end"])
    accepted.send([b"end"])
    with Reader(server) as at_server, Reader(client) as at_client:
        for reader in (at_server, at_client):
            reader.wait(3, "all arrive")
            assert [frames[0] for frames in reader.messages()] == [b"0", b"1", b"end"]
            assert all(frames[1] == large for frames in reader.messages()[:2])


def test_large_frames_are_read_where_they_were_received(pair):
    """Up to the size of a piece, no copy is made of what ZeroMQ has received."""
    server, client, _ = pair
    out = introduced(pair)
    out.send([b"head", bytes(3 * MIB)])
    events = []
    while not events:
        events = server.poll(1.0)
        client.poll(0)
    frame = events[0][1][1]
    assert isinstance(frame, memoryview)
    assert isinstance(frame.obj, ctypes.Array)  # not memory of Python's
    assert len(frame) == 3 * MIB


def test_memory_comes_back(pair):
    """It is let go of when it is sent, and when it never will be."""
    server, client, _ = pair
    out = introduced(pair)

    class Memory(bytearray):
        pass

    import weakref

    sent, dropped = Memory(2 * MIB), Memory(64 * MIB)
    refs = [weakref.ref(sent), weakref.ref(dropped)]
    with Reader(client), Reader(server) as at_server:
        out.send([sent])
        at_server.wait(1, "it arrives")
        del sent
        eventually(lambda: refs[0]() is None)
    out.send([dropped])
    del dropped
    assert refs[1]() is not None
    client.close()
    gc.collect()
    eventually(lambda: refs[1]() is None)


def test_threads_that_send_while_another_waits(pair):
    """A sender may take in what ZeroMQ will not announce again: the waiting thread is told. Ping-pong finds a lapse."""
    server, client, address = pair
    out = client.connect(address)
    rounds = 3000
    done = threading.Event()
    left = [rounds]

    def serve():
        while not done.is_set():
            for connection, frames in server.poll(0.5):
                if frames is not None:
                    connection.send(frames)

    def receive():
        while not done.is_set():
            for _, frames in client.poll(0.5):
                if frames is not None and frames[0] == b"ping":
                    left[0] -= 1
                    if not left[0]:
                        done.set()
                        return
                    out.send([b"ping"])

    def disturb():
        while not done.is_set():
            out.send([b"noise"])
            time.sleep(0.0002)

    threads = [threading.Thread(target=target) for target in (serve, receive, disturb, disturb)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    out.send([b"ping"])
    finished = done.wait(30)
    done.set()
    for thread in threads:
        thread.join(5)
    # One lapse costs half a second.
    assert finished, f"{left[0]} of {rounds} rounds left after {time.monotonic() - started:.1f} s"


def test_a_peer_that_breaks_the_protocol_is_lost(folders):
    """Whatever it sends; others are not disturbed."""
    server = ZmqTransport(folders())
    address = server.listen("server")
    honest = ZmqTransport(folders())
    nonsense = [
        [b""],
        [b"\xff"],
        [b"\x02"],
        [b"\x02", b"piece of nothing"],
        [b"\x01\xff\xff\xff\xff"],
        [b"\x00x", b"second part"],
        [b"\x03" + b"\xff" * 16],
        [b"\x03short"],
        [b"a"] * 50,
    ]
    context = zmq.Context()
    with Reader(server) as at_server, Reader(honest):
        out = honest.dial(address)
        for number, parts in enumerate(nonsense):
            with context.socket(zmq.DEALER) as rogue:
                rogue.set(zmq.LINGER, 500)
                rogue.connect(address)
                rogue.send(b"\x00hello")
                at_server.wait(2 * number + 1, "it arrives")
                rogue.send_multipart(parts)
                eventually(lambda number=number: len(at_server.ends()) == number + 1)
                rogue.send_multipart([b"\x00ignored from now on"])
                out.send([b"%d" % number])
                at_server.wait(2 * number + 2, "honest messages arrive")
        assert at_server.messages() == [
            part for number in range(len(nonsense)) for part in ([b"hello"], [b"%d" % number])
        ]
    context.term()
    honest.close()
    server.close()


def test_a_part_that_is_too_large_ends_the_connection(folders):
    server = ZmqTransport(folders())
    address = server.listen("server")
    with zmq.Context() as context, context.socket(zmq.DEALER) as rogue, Reader(server) as at_server:
        rogue.set(zmq.LINGER, 0)
        rogue.set(zmq.RECONNECT_IVL, -1)
        rogue.connect(address)
        rogue.send(b"\x00hello")
        at_server.wait(1, "it arrives")
        rogue.send(b"\x00" + bytes(sockets.OPTIONS[zmq.MAXMSGSIZE]))
        eventually(at_server.ends)
        assert len(at_server.messages()) == 1
    server.close()


def test_closing_while_another_thread_polls(pair):
    """As a worker process does at its end: what was sent arrives, and the other thread meets no error."""
    server, client, address = pair
    out = client.connect(address)
    problems, stop = [], threading.Event()

    def poll():
        try:
            while not stop.is_set():
                client.poll(0.05)
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=poll)
    thread.start()
    with Reader(server) as at_server:
        for number in range(1000):
            out.send([b"%d" % number])
        client.close()
        stop.set()
        thread.join(5)
        eventually(at_server.ends)
        assert len(at_server.messages()) == 1000
    assert problems == []
