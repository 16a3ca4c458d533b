"""Every call of ZeroMQ may let messages in, which it announces no second time: the thread that polls finds them."""

from __future__ import annotations

import select
import threading
import time

import pytest

from ray_transport_zmq.transport import ZmqTransport


def connect(client, address, out):
    client.connect(address)


def fail_to_connect(client, address, out):
    with pytest.raises(ConnectionError):
        client.connect(address + "x", timeout_s=0.05)


def settle(client, address, out):
    out.queue.append((1, (b"\0",)))  # as one that another thread is about to send
    client.settle(0.5)


@pytest.mark.parametrize("use", [connect, fail_to_connect, settle])
def test_they_are_found(folders, use):
    folder = folders()
    server, client = ZmqTransport(folder), ZmqTransport(folder)
    address = server.listen("server")
    out = client.connect(address)
    out.send([b"hello"])
    events = []
    while not events:
        events = server.poll(10.0)
    [(accepted, _)] = events
    while client.poll(0.1):
        pass
    (hub,) = client._hubs
    wait, has_come = client._poller.poll, threading.Event()

    def wait_late(timeout_s):
        if not has_come.is_set():
            has_come.set()
            accepted.send([b"news"])
            assert select.select([hub.fds[0]], [], [], 10.0)[0]
            other = threading.Thread(target=use, args=(client, address, out))
            other.start()
            other.join()
        return wait(timeout_s)

    client._poller.poll = wait_late
    events, start = [], time.monotonic()
    while not events:
        events = client.poll(10.0)
    assert time.monotonic() - start < 9.0
    assert has_come.is_set()
    assert [[bytes(frame) for frame in frames] for _, frames in events] == [[b"news"]]
    for transport in (client, server):
        transport.close()
