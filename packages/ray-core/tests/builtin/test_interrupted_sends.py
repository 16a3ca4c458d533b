"""Sends over unix sockets that Ctrl-C ends at any point, and what other threads send afterwards."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import ray.builtin
from ray.builtin.unix_transport import UnixTransport
from ray.testing.contracts._expect import eventually
from ray.testing.contracts._link import Reader
from ray.testing.interruption import interrupted

_CODE = os.path.dirname(ray.builtin.__file__) + os.sep
#: More than a socket takes at a time.
_LARGE = b"x" * 400_000


@pytest.fixture
def make(tmp_path) -> Iterator[Callable[[], UnixTransport]]:
    made: list[UnixTransport] = []

    def make_one() -> UnixTransport:
        made.append(UnixTransport(str(tmp_path)))
        return made[-1]

    yield make_one
    for transport in made:
        transport.close()


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("body", [b"small", _LARGE], ids=["small", "large"])
def test_ctrl_c_in_a_send_holds_up_nobody(make, body) -> None:
    server, client = make(), make()
    with Reader(server) as at_server, Reader(client):
        out = client.connect(server.listen("server"))
        out.send([b"hello"])
        at_server.wait(1, "it arrives")
        point, ended = 1, list[bool]()

        def send() -> None:
            with contextlib.suppress(KeyboardInterrupt):
                interrupted(lambda: out.send([b"first", body]), point, interrupt, lambda path: path.startswith(_CODE))
                ended.append(True)

        while not ended:
            at_server.events.clear()
            # Where a tracer raises in an ``except`` block, Python 3.11 keeps the thread's exception for ever.
            for target in (send, lambda: out.send([b"other", _LARGE])):
                thread = threading.Thread(target=target)
                thread.start()
                thread.join(10)
            at_server.wait(1, "something arrives")
            while [b"other", _LARGE] not in at_server.messages():
                at_server.wait(len(at_server.messages()) + 1, f"what another thread sends arrives (point {point})")
            assert at_server.messages() in ([[b"first", body], [b"other", _LARGE]], [[b"other", _LARGE]]), point
            point += 1
        assert point > 20
        # The last bytes may arrive before the thread that has sent them has noted so.
        eventually(lambda: out.queued_bytes == 0, "what was sent is not queued any more")


def test_what_an_interrupted_send_has_begun_goes_on_inside(make) -> None:
    """The code that interrupts it may wait for what only that message brings."""
    server, client = make(), make()
    with Reader(server) as at_server:
        out = client.connect(server.listen("server"))
        out.send([b"hello"])
        at_server.wait(1, "it arrives")

        def wait_inside() -> None:
            end = time.monotonic() + 10
            client.catch_up()
            while out.queued_bytes:
                assert time.monotonic() < end, f"nobody writes the rest (point {point})"
                client.poll(0.05)

        point, points = 1, 1
        while point <= points:
            _, points = interrupted(
                lambda: out.send([b"first", _LARGE]), point, wait_inside, lambda path: path.startswith(_CODE)
            )
            wait_inside()
            point += 1
        assert points > 20
        assert at_server.wait(point, "all arrive")[1:] == [[b"first", _LARGE]] * (point - 1)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python collects between two steps only")
def test_bytes_are_sent_and_received_once_where_the_collector_runs_at_every_container(make, monkeypatch) -> None:
    """Its finalisers send and poll: in the middle of a system call they would do so twice."""
    server, client = make(), make()
    out = client.connect(server.listen("server"))
    out.send([b"hello"])
    received: list[list[bytes]] = []
    kept: list[tuple[int]] = []
    sent = finalised = 0

    def take() -> None:
        for _, frames in server.poll(0):
            assert frames is not None, f"the stream is damaged (message {sent})"
            received.append([bytes(frame[:4]) for frame in frames])

    class Cycle:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            nonlocal sent, finalised
            finalised += 1
            sent += 1
            out.send([b"%04d" % sent])
            take()

    def ident() -> int:
        gc.set_threshold(0)
        kept.extend((number,) for number in range(2500))  # tuples that are free are used again without a collection
        gc.set_threshold(gc.get_count()[0] + sent % 8)  # one of the next is made after a collection
        return threading.get_ident()

    monkeypatch.setattr("ray.builtin.unix_connection.get_ident", ident)
    thresholds = gc.get_threshold()
    try:
        for size in (b"", _LARGE) * 50:
            sent += 1
            data = [b"%04d" % sent, size]
            Cycle()
            out.send(data)
            gc.set_threshold(0)
            client.poll(0)
            take()
            del kept[:]
    finally:
        gc.set_threshold(*thresholds)
    end = time.monotonic() + 10
    while out.queued_bytes or len(received) <= sent:
        assert time.monotonic() < end
        client.poll(0)
        take()
    assert finalised > 40
    assert sorted(frames[0] for frames in received[1:]) == [b"%04d" % number for number in range(1, sent + 1)]
