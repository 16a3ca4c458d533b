"""Dials over unix sockets to a listener whose queue is full, and is emptied in the end."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

import ray.builtin
from ray.builtin.unix_transport import UnixTransport
from ray.testing.contracts._expect import eventually
from ray.testing.contracts._link import Reader
from ray.testing.interruption import interrupted

_CODE = os.path.dirname(ray.builtin.__file__) + os.sep


class Crowd:
    """A transport whose listener is full until somebody polls it, and transports that dial it."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.made: list[UnixTransport] = []
        self.server = self.make()
        self.address = self.server.listen("server")
        assert self.server._listener is not None
        self.server._listener._sock.listen(0)
        self._fillers: list[socket.socket] = []

    def make(self) -> UnixTransport:
        self.made.append(UnixTransport(self._folder))
        return self.made[-1]

    def fill(self) -> None:
        """Leave no place in its queue."""
        while True:
            filler = socket.socket(socket.AF_UNIX)
            self._fillers.append(filler)
            filler.setblocking(False)
            try:
                filler.connect(self.address.removeprefix("unix:"))
            except BlockingIOError:
                return

    def close(self) -> None:
        for filler in self._fillers:
            filler.close()
        for transport in self.made:
            transport.close()


@pytest.fixture
def crowd(short_dir) -> Iterator[Crowd]:
    made = Crowd(str(short_dir))
    made.fill()
    yield made
    made.close()


def test_what_was_sent_before_there_is_room_goes_first(crowd: Crowd) -> None:
    client = crowd.make()
    out = client.dial(crowd.address)
    assert out.dialling
    large = os.urandom(300_000)
    for number in range(100):
        out.send([b"%d" % number])
    out.send([b"large", large])
    assert out.queued_bytes > 300_000
    with Reader(client):
        with Reader(crowd.server) as at_server:
            eventually(lambda: not out.dialling, "it stands once there is room")
            out.send([b"last"])
            seen = at_server.wait(102, "all arrive")
        assert seen == [*([b"%d" % number] for number in range(100)), [b"large", large], [b"last"]]
        eventually(lambda: out.queued_bytes == 0, "all is sent")
    assert out.failure is None


def test_threads_send_while_it_comes_to_stand(crowd: Crowd) -> None:
    client = crowd.make()
    out = client.dial(crowd.address)
    ending = threading.Event()
    sent = [0, 0, 0]

    def send(index: int) -> None:
        while not ending.is_set():
            out.send([b"%d" % index, b"%d" % sent[index], b"x" * 500])
            sent[index] += 1
            ending.wait(0.0001)

    threads = [threading.Thread(target=send, args=(index,)) for index in range(3)]
    with Reader(client), Reader(crowd.server) as at_server:
        for thread in threads:
            thread.start()
        eventually(lambda: not out.dialling and len(at_server.messages()) > 50, "it stands once there is room")
        ending.set()
        for thread in threads:
            thread.join()
        seen = at_server.wait(sum(sent), "all arrive")
    for index in range(3):
        assert [frames[1] for frames in seen if frames[0] == b"%d" % index] == [b"%d" % n for n in range(sent[index])]


def test_close_and_settle_wait_for_room(crowd: Crowd) -> None:
    first, second, third = crowd.make(), crowd.make(), crowd.make()
    closed, settled, left = first.dial(crowd.address), second.dial(crowd.address), third.dial(crowd.address)
    for out in (closed, settled, left):
        out.send([b"hello"])
    assert not second.settle(0.05)
    with Reader(crowd.server) as at_server:
        closed.close()
        assert second.settle(5.0)
        assert not settled.dialling
        third.close()
        assert at_server.wait(3, "all arrive") == [[b"hello"]] * 3


class Held:
    """Something of the program that dials."""


def dial_nobody(client: UnixTransport, crowd: Crowd) -> weakref.ref[Held]:
    held = Held()
    failed = client.dial(crowd.address + "-is-not-there")
    assert failed.failure is not None
    return weakref.ref(held)


def dial_in_vain(client: UnixTransport, crowd: Crowd) -> weakref.ref[Held]:
    held = Held()
    waits = client.dial(crowd.address)
    assert waits.dialling
    crowd.server.close()
    client.try_again(0.0)
    assert waits.failure is not None
    return weakref.ref(held)


@pytest.mark.parametrize("dial", [dial_nobody, dial_in_vain])
def test_a_failed_dial_keeps_nothing_of_the_program(
    crowd: Crowd, dial: Callable[[UnixTransport, Crowd], weakref.ref[Held]]
) -> None:
    """Until a collection, that is: what the program holds may be the last handle of an actor."""
    client = crowd.make()
    gc.collect()
    gc.disable()
    try:
        assert dial(client, crowd)() is None
    finally:
        gc.enable()


def test_polls_that_dial_are_interrupted(crowd: Crowd) -> None:
    """What interrupts them may wait for what is being dialled, or dial in its turn."""
    client = crowd.make()
    point, points, sent = 1, 1, 0
    while point <= points:
        out = client.dial(crowd.address)
        assert out.dialling
        out.send([b"%d" % sent])
        sent += 1
        crowd.server.poll(0)  # makes room
        with Reader(crowd.server) as at_server:
            wanted = [b"%d" % (sent - 1)]

            def has_come(wanted: list[bytes] = wanted, at_server: Reader = at_server) -> bool:
                if wanted not in at_server.messages():
                    client.poll(0.02)
                return wanted in at_server.messages()

            def wait(has_come: Callable[[], bool] = has_come) -> None:
                eventually(has_come, "a poll inside a poll goes on with what is dialled")

            _, points = interrupted(lambda: client.poll(0.02), point, wait, lambda path: path.startswith(_CODE))
            wait()
            assert at_server.messages() == [wanted]
            out.close()
            eventually(at_server.ends, "its end is told")
        crowd.fill()
        point += 1
    assert point > 20


@pytest.mark.parametrize("end", ["abort", "close"])
def test_what_does_not_stand_in_time_has_failed_and_gives_its_descriptor_back(crowd: Crowd, end: str) -> None:
    client = crowd.make()
    before = set(os.listdir("/dev/fd"))
    out, other = client.dial(crowd.address, 0.1), client.dial(crowd.address, 5.0)
    with Reader(client) as at_client:
        eventually(at_client.ends, "it fails in time")
        getattr(other, end)()
        assert at_client.ends() == [out]
    assert "server.sock" in str(out.failure)
    assert other.failure is None
    assert set(os.listdir("/dev/fd")) == before


def test_a_descriptor_that_the_program_closes_while_it_dials_costs_nobody_else(crowd: Crowd) -> None:
    client = crowd.make()
    out = client.dial(crowd.address)
    os.close(out.fd)
    pair = socket.socketpair()
    with contextlib.ExitStack() as stack:
        for sock in pair:
            stack.callback(sock.close)
        events = client.poll(0.1)
        assert events == [(out, None)]
        pair[0].send(b"theirs")
        assert pair[1].recv(10) == b"theirs"
    assert out.failure is not None
