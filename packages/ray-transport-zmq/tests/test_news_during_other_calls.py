"""Every call of ZeroMQ may let messages in, which it announces no second time: the thread that polls finds them."""

from __future__ import annotations

import select
import threading
import time

import pytest

from ray_transport_zmq.transport import ZmqTransport


def dial(client, address, out):
    client.dial(address)


def settle(client, address, out):
    out.queue.append((1, (b"\0",)))  # as one that another thread is about to send
    client.settle(0.5)


@pytest.fixture
def pair(folders):
    """A client, its connection, and the server's end of that; nothing is on its way."""
    folder = folders()
    server, client = ZmqTransport(folder), ZmqTransport(folder)
    out = client.connect(server.listen("server"))
    out.send([b"hello"])
    events = []
    while not events:
        events = server.poll(10.0)
    [(accepted, _)] = events
    while client.poll(0.1):
        pass
    yield client, out, accepted
    for transport in (client, server):
        transport.close()


def send_and_have(other, hub, accepted):
    """Have a message come to a socket whose poller has just looked, and another thread do something with it."""
    accepted.send([b"news"])
    assert select.select([hub.fds[0]], [], [], 10.0)[0]
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()


def check_found(client):
    """It is, without any call's help, though the descriptor may stay silent."""
    events, start = [], time.monotonic()
    while not events and time.monotonic() - start < 9.0:
        events = client.poll(10.0)
    assert time.monotonic() - start < 9.0
    assert [[bytes(frame) for frame in frames] for _, frames in events] == [[b"news"]]


@pytest.mark.parametrize("use", [dial, settle])
def test_they_are_found(pair, use):
    client, out, accepted = pair
    (hub,) = client._hubs
    wait, has_come = client._poller.poll, threading.Event()

    def wait_late(timeout_s):
        if not has_come.is_set():
            has_come.set()
            send_and_have(lambda: use(client, out.address, out), hub, accepted)
        return wait(timeout_s)

    client._poller.poll = wait_late
    check_found(client)
    assert has_come.is_set()


def test_they_are_found_though_the_poller_has_just_found_nothing(pair):
    client, out, accepted = pair
    (hub,) = client._hubs
    look, has_come = hub.has_messages, threading.Event()

    def look_too_early():
        found = look()
        if not found and not has_come.is_set():
            has_come.set()
            send_and_have(client._wake_for_messages, hub, accepted)  # as after each send
        return found

    hub.has_messages = look_too_early
    out.send([b"touches the socket"])
    check_found(client)
    assert has_come.is_set()
