"""``settle``: what was sent before arrives, though the process is killed at once after it; it waits for no peer."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from tests.stopwatch import Stopwatch

from ray.testing.contracts._link import Reader
from ray_transport_zmq import settling
from ray_transport_zmq.options import ZmqOptions
from ray_transport_zmq.transport import ZmqTransport

MIB = 1024 * 1024
ROUNDS = 30
COUNT = 20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a thread does")

#: ``python -c DOOMED folder scheme address rounds count``: processes that send, settle and die, one after the other.
DOOMED = """
import os, signal, sys, threading
from ray_transport_zmq.options import ZmqOptions
from ray_transport_zmq.transport import ZmqTransport
folder, scheme, address, rounds, count = sys.argv[1:]
for number in range(int(rounds)):
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        continue
    transport = ZmqTransport(folder, ZmqOptions(scheme=scheme))
    out = transport.connect(address)
    threading.Thread(target=transport.poll, args=(None,), daemon=True).start()
    for message in range(int(count)):
        out.send([b"%d" % number, b"%d" % message])
        if message in (0, int(count) // 2, int(count) - 1) and not transport.settle(5.0):
            sys.exit("could not settle")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(params=["ipc", "tcp"])
def scheme(request):
    return request.param


def test_what_was_settled_outlives_the_process(folders, scheme):
    folder = folders()
    server = ZmqTransport(folder, ZmqOptions(scheme=scheme))
    address = server.listen("server")
    with Reader(server) as at_server:
        command = [sys.executable, "-c", DOOMED, folder, scheme, address, str(ROUNDS), str(COUNT)]
        subprocess.run(command, timeout=60, check=True)
        seen = at_server.wait(ROUNDS * COUNT, "all arrive")
    wanted = [[b"%d" % number, b"%d" % message] for number in range(ROUNDS) for message in range(COUNT)]
    assert sorted(seen) == sorted(wanted)
    server.close()


def test_a_peer_that_does_not_read_is_not_waited_for(folders, scheme):
    """With a unix socket not at all; TCP cannot tell this from what it is about to send, so for the time given."""
    folder = folders()
    server, client = (ZmqTransport(folder, ZmqOptions(scheme=scheme)) for _ in range(2))
    out = client.connect(server.listen("server"))
    out.send([b"hello"])  # the first message has to be small
    for number in range(20):
        out.send([b"%d" % number, bytes(MIB)])
        started = Stopwatch()
        assert client.settle(5.0 if scheme == "ipc" else 0.01) or scheme == "tcp"
        assert started.undisturbed_s() < 2.0
    assert out.queued_bytes
    with Reader(client), Reader(server) as at_server:
        _, *seen = at_server.wait(21, "all arrive")
        assert [frames[0] for frames in seen] == [b"%d" % number for number in range(20)]
    client.close()
    server.close()


def test_messages_of_other_threads_do_not_keep_it(folders, scheme):
    folder = folders()
    server, client = (ZmqTransport(folder, ZmqOptions(scheme=scheme)) for _ in range(2))
    out, other = (client.connect(address) for address in [server.listen("server")] * 2)
    stop = threading.Event()

    def send():
        while not stop.is_set():
            other.send([b"x" * 1000])
            time.sleep(0.0001)

    with Reader(server), Reader(client):
        thread = threading.Thread(target=send)
        thread.start()
        try:
            for _ in range(100):
                out.send([b"mine"])
                assert client.settle(5.0)
        finally:
            stop.set()
            thread.join(5)
    client.close()
    server.close()


def test_a_system_that_tells_nothing_is_not_waited_for(folders, monkeypatch):
    monkeypatch.setattr(settling, "_TASKS", "/nowhere")
    server, client = ZmqTransport(folders()), ZmqTransport(folders())
    assert client.settle(60.0)  # nothing was sent
    out = client.connect(server.listen("server"))
    with Reader(server) as at_server, Reader(client):
        for number in range(20):
            out.send([b"%d" % number])
            assert not client.settle(60.0)
        assert len(at_server.wait(20, "all arrive")) == 20
    client.close()
    server.close()


@pytest.mark.parametrize(("state", "place", "rests"), [("S", "232 ", True), ("R", "232 ", False), ("S", "7 ", False)])
def test_a_thread_that_is_being_woken_does_not_rest(tmp_path, monkeypatch, state, place, rests):
    """Of one that another processor is to run Linux tells the system call in which it has slept."""
    task = tmp_path / "1"
    task.mkdir()
    (task / "comm").write_text(f"{settling._NAME}\n")
    (task / "stat").write_text(f"1 ({settling._NAME}) {state} 0 0 0")
    (task / "syscall").write_text(f"{place}0x3 0x7f0000000000 0x100 0xffffffff")
    monkeypatch.setattr(settling, "_TASKS", str(tmp_path))
    thread = settling.IoThread()
    thread.find()
    assert thread.await_rest(time.monotonic() + 0.01) is rests
    thread.close()
