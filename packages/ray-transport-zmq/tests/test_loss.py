"""Peers that die, stop or leave: what was sent arrives first, then the loss is told, once and soon."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest
import zmq
from tests.stopwatch import Stopwatch

from ray.testing import eventually
from ray.testing.contracts._link import Reader
from ray_transport_zmq import sockets
from ray_transport_zmq.options import ZmqOptions
from ray_transport_zmq.transport import ZmqTransport

#: A peer in a process of its own: ``python -c PEER folder scheme connect|listen address`` - it sends 500 messages, says
#: so, and serves until it is killed.
PEER = """
import os, sys, threading, time
from ray_transport_zmq.options import ZmqOptions
from ray_transport_zmq.transport import ZmqTransport
folder, scheme, role, address = sys.argv[1:5]
transport = ZmqTransport(folder, ZmqOptions(scheme=scheme))
if role == "listen":
    print(transport.listen("peer"), flush=True)
    events = []
    while not events:
        events = transport.poll(None)
    out = events[0][0]
else:
    out = transport.connect(address)
for number in range(500):
    out.send([b"%d" % number])
print("sent", flush=True)
if role == "fork" and not os.fork():
    transport.abandon()
    print(os.getpid(), flush=True)
    time.sleep(60)
while True:
    transport.poll(None)
"""


@contextlib.contextmanager
def peer(folder, scheme, role, address=""):
    command = [sys.executable, "-c", PEER, folder, scheme, role, address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def reader(folders, request):
    """A transport that is being polled, its folder and its scheme."""
    scheme = getattr(request, "param", "ipc")
    folder = folders()
    transport = ZmqTransport(folder, ZmqOptions(scheme=scheme))
    with Reader(transport) as at_reader:
        yield transport, at_reader, folder, scheme
    transport.close()


def loss_after(process, at_reader, number=signal.SIGKILL, within_s=10.0):
    """A stopwatch from the signal to the report."""
    start = Stopwatch()
    process.send_signal(number)
    eventually(at_reader.ends, within_s)
    return start


def check(at_reader):
    assert [bytes(frames[0]) for frames in at_reader.messages()] == [b"%d" % number for number in range(500)]
    assert len(at_reader.ends()) == 1
    assert at_reader.events[-1][1] is None
    assert at_reader.ends()[0].closed


@pytest.mark.parametrize("reader", ["ipc", "tcp"], indirect=True)
def test_a_killed_peer_that_had_connected(reader):
    transport, at_reader, folder, scheme = reader
    address = transport.listen("reader")
    with peer(folder, scheme, "connect", address) as process:
        assert process.stdout.readline() == "sent\n"
        at_reader.wait(500, "all arrive")
        assert loss_after(process, at_reader).undisturbed_s() < 0.2
    check(at_reader)


@pytest.mark.parametrize("reader", ["ipc", "tcp"], indirect=True)
def test_a_killed_peer_that_had_listened(reader):
    transport, at_reader, folder, scheme = reader
    with peer(folder, scheme, "listen") as process:
        out = transport.dial(process.stdout.readline().strip())
        out.send([b"hello"])
        assert process.stdout.readline() == "sent\n"
        at_reader.wait(500, "all arrive")
        assert loss_after(process, at_reader).undisturbed_s() < 0.2
    check(at_reader)
    assert at_reader.ends() == [out]
    again = transport.dial(out.address, timeout_s=1.0)
    eventually(lambda: again in at_reader.ends())
    assert out.address in str(again.failure)


def test_many_peers_killed_at_once(reader):
    transport, at_reader, folder, scheme = reader
    address = transport.listen("reader")
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(peer(folder, scheme, "connect", address)) for _ in range(4)]
        for process in processes:
            assert process.stdout.readline() == "sent\n"
        at_reader.wait(2000, "all arrive")
        for process in processes:
            process.kill()
        eventually(lambda: len(at_reader.ends()) == 4, 1.0)
        for connection in at_reader.ends():
            mine = [frames for each, frames in at_reader.events if each is connection]
            assert mine == [[b"%d" % number] for number in range(500)] + [None]


def test_what_a_dead_peer_had_sent_is_not_lost(folders):
    """Nobody polls while it sends and dies."""
    folder = folders()
    transport = ZmqTransport(folder)
    address = transport.listen("reader")
    with peer(folder, "ipc", "connect", address) as process:
        assert process.stdout.readline() == "sent\n"
        time.sleep(0.1)  # ZeroMQ's own thread writes
        process.kill()
        process.wait()
    with Reader(transport) as at_reader:
        eventually(at_reader.ends)
    # As much as credit was given for; the rest had never left the dead process.
    seen = [bytes(frames[0]) for frames in at_reader.messages()]
    assert seen == [b"%d" % number for number in range(256)]
    assert at_reader.events[-1][1] is None
    transport.close()


def test_a_forked_child_does_not_hide_the_death_of_its_parent(reader):
    transport, at_reader, folder, scheme = reader
    address = transport.listen("reader")
    with peer(folder, scheme, "fork", address) as process:
        assert process.stdout.readline() == "sent\n"
        child = int(process.stdout.readline())
        try:
            at_reader.wait(500, "all arrive")
            assert loss_after(process, at_reader).undisturbed_s() < 0.2
        finally:
            os.kill(child, signal.SIGKILL)
    check(at_reader)


def test_a_peer_that_stops_for_a_while_is_not_lost(reader):
    transport, at_reader, folder, scheme = reader
    address = transport.listen("reader")
    with peer(folder, scheme, "connect", address) as process:
        assert process.stdout.readline() == "sent\n"
        at_reader.wait(500, "all arrive")
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        accepted = at_reader.events[0][0]
        accepted.send([b"x" * 1000])
        assert not at_reader.ends()
        process.send_signal(signal.SIGCONT)
        assert loss_after(process, at_reader).undisturbed_s() < 0.2
    check(at_reader)


@pytest.mark.parametrize("reader", ["tcp"], indirect=True)
def test_over_tcp_a_peer_that_does_not_answer_is_lost(monkeypatch, reader):
    """Its system does: only the heartbeat stops.

    Twenty times as quick as it is set; that it is set is tested with the options.
    """
    transport, at_reader, folder, scheme = reader
    for option in (zmq.HEARTBEAT_IVL, zmq.HEARTBEAT_TIMEOUT):
        monkeypatch.setitem(sockets.TCP_OPTIONS, option, sockets.TCP_OPTIONS[option] // 20)
    address = transport.listen("reader")
    with peer(folder, scheme, "connect", address) as process:
        assert process.stdout.readline() == "sent\n"
        at_reader.wait(500, "all arrive")
        stopped = loss_after(process, at_reader, signal.SIGSTOP, 12.0)
        assert stopped.elapsed_s() > 0.4
        assert stopped.undisturbed_s() < 2.3
    check(at_reader)


def test_a_loss_is_told_though_another_thread_that_dials_reads_of_it(folders):
    """The thread that dials reads ZeroMQ's reports, too; the thread that polls must hear of those that are for it."""
    import select
    import socket
    import threading

    folder = folders()
    with peer(folder, "ipc", "listen") as process, socket.socket(socket.AF_UNIX) as mute:
        mute.bind(f"{folder}/mute.sock")
        mute.listen()
        client = ZmqTransport(folder)
        out = client.connect(process.stdout.readline().strip())
        for fd in out.hub.fds:
            client._poller.unregister(fd)  # so it is always the thread that dials that gets the report
        lost = []

        def poll():
            while not lost:
                lost.extend(connection for connection, frames in client.poll(None) if frames is None)

        thread = threading.Thread(target=poll)
        thread.start()
        eventually(lambda: client._waiting)
        process.kill()
        assert select.select([out.hub.fds[1]], [], [], 5.0)[0]
        started = Stopwatch()
        client.dial(f"ipc://{folder}/mute.sock", timeout_s=5.0)
        thread.join(10)
        assert lost == [out]
        assert started.undisturbed_s() < 0.5
        client.close()


def test_a_probe_of_the_listener_disturbs_nobody(reader):
    """Whatever connects and says nothing, or nonsense, is no peer."""
    import socket

    transport, at_reader, folder, _ = reader
    address = transport.listen("reader")
    path = address.removeprefix("ipc://")
    for data in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 200):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
            probe.sendall(data)
    client = ZmqTransport(folder)
    client.connect(address).send([b"hello"])
    assert at_reader.wait(1, "others still get through") == [[b"hello"]]
    client.close()
    eventually(at_reader.ends)
    assert len(at_reader.events) == 2


def test_the_same_address_twice_and_one_of_them_closed(reader, folders):
    """ZeroMQ can only end connections to one address together; the other one must live on."""
    transport, at_reader, _, _ = reader
    address = transport.listen("reader")
    client = ZmqTransport(folders())
    first, second = client.connect(address), client.connect(address)
    with Reader(client) as at_client:
        first.send([b"first"])
        second.send([b"second"])
        at_reader.wait(2, "both arrive")
        accepted = {bytes(frames[0]): connection for connection, frames in at_reader.events}
        first.close()
        eventually(at_reader.ends)
        assert at_reader.ends() == [accepted[b"first"]]
        accepted[b"first"].send([b"to nobody"])
        accepted[b"second"].send([b"reply"])
        assert at_client.wait(1, "the other lives") == [[b"reply"]]
        second.send([b"again"])
        assert at_reader.wait(3, "the other lives")[-1] == [b"again"]
        second.close()
        eventually(lambda: len(at_reader.ends()) == 2)
    client.close()


def test_a_transport_may_connect_to_itself(reader):
    transport, at_reader, _, _ = reader
    address = transport.listen("reader")
    out = transport.dial(address)
    out.send([b"to myself"])
    assert at_reader.wait(1, "it arrives") == [[b"to myself"]]
    at_reader.events[0][0].send([b"reply"])
    at_reader.wait(2, "and back")
    assert at_reader.events[1] == (out, [b"reply"])
    out.close()
    eventually(at_reader.ends)
