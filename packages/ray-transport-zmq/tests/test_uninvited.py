"""A process that can reach a socket can connect: what it sends, or does not send, ends nothing and fills nothing."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import time

import pytest

from ray.abc.strangers import FIRST_MESSAGE_BYTES, FIRST_MESSAGE_S, MAX_STRANGERS
from ray.testing.contracts._expect import eventually
from ray.testing.contracts._link import Reader
from ray_transport_zmq.options import ZmqOptions
from ray_transport_zmq.transport import ZmqTransport

#: What ZeroMQ 2 sends: an empty identity, then a message of one byte.
ZEROMQ_2 = bytes.fromhex("0100020078")
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
HELLO = GREETING + bytes([4, len(READY)]) + READY


def frame(body: bytes, flags: int = 0) -> bytes:
    """A frame of ZMTP 3 with a long length."""
    return struct.pack(">BQ", flags | 2, len(body)) + body


class Server:
    """A polled transport, and ways to reach it."""

    def __init__(self, folder: str, scheme: str) -> None:
        self.options = ZmqOptions(scheme=scheme)
        self.folder = folder
        self.transport = ZmqTransport(folder, self.options)
        self.address = self.transport.listen("server")
        self.reader = Reader(self.transport)

    def raw(self) -> socket.socket:
        if self.address.startswith("ipc://"):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(10)
            sock.connect(self.address.removeprefix("ipc://"))
            return sock
        host, _, port = self.address.removeprefix("tcp://").rpartition(":")
        return socket.create_connection((host, int(port)), timeout=10)

    def shaken(self) -> socket.socket:
        """A connection that is through with ZeroMQ's greetings."""
        sock = self.raw()
        sock.sendall(HELLO)
        heard = b""
        while b"Socket-Type" not in heard:
            heard += sock.recv(4096)
        return sock

    def check_answers(self) -> None:
        """A peer that is invited is heard."""
        self.reader.check()
        before = self.reader.messages().count([b"still there"])
        client = ZmqTransport(self.folder, self.options)
        try:
            with Reader(client):
                client.dial(self.address).send([b"still there"])
                eventually(lambda: self.reader.messages().count([b"still there"]) > before, "it arrives")
        finally:
            client.close()


@pytest.fixture(params=["ipc", "tcp"])
def server(request, folders):
    server = Server(folders(), request.param)
    with server.reader:
        yield server
    server.transport.close()


def ended(sock: socket.socket, timeout_s: float) -> bool:
    """Whether the server ends the connection in time; what it says before is skipped."""
    end = time.monotonic() + timeout_s
    with contextlib.suppress(ConnectionError):
        while (left_s := end - time.monotonic()) > 0:
            sock.settimeout(left_s)
            try:
                if not sock.recv(65536):
                    return True
            except TimeoutError:
                return False
        return False
    return True


def send(server: Server, *pieces: bytes) -> None:
    """Send each piece; a client that begins as a peer of ZeroMQ does waits for its answer before the rest."""
    with contextlib.suppress(OSError), server.raw() as sock:
        for piece in pieces:
            sock.sendall(piece)
            if piece == HELLO:
                sock.settimeout(0.1)
                sock.recv(4096)


def test_a_peer_of_zeromq_2_ends_nothing(server):
    with server.raw() as sock:
        sock.sendall(ZEROMQ_2)
        server.check_answers()
    assert len(server.reader.messages()) == 1


def test_garbage_ends_nothing(server):
    """Bytes of all kinds: random ones, parts of what is right, and what is right with a few bytes changed."""
    rng = random.Random(20)
    unit = frame(b"\0message") + frame(b"\1" + struct.pack("<IQ", 1, 5) + b"large")
    for number in range(150):
        if number % 3 == 0:
            data = rng.randbytes(rng.choice((1, 10, 64, 65, 500)))
        elif number % 3 == 1:
            data = HELLO[: rng.randrange(len(HELLO))]
        else:
            changed = bytearray(unit if number % 2 else HELLO + unit)
            for _ in range(rng.randrange(1, 6)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            data = bytes(changed)
        send(server, *([HELLO] if number % 2 and number % 3 == 2 and server.options.scheme == "ipc" else []), data)
    send(server, ZEROMQ_2[:3], ZEROMQ_2[3:] * 50)
    server.check_answers()


UNITS = {
    "unknown kind": [frame(b"\x09x")],
    "no frames": [frame(b"\1" + struct.pack("<I", 0))],
    "too many frames": [frame(b"\1" + struct.pack("<I", 1 << 31))],
    "a huge frame": [frame(b"\1" + struct.pack("<IQ", 1, 1 << 63 | 1 << 41))],
    "a piece of nothing": [frame(b"\2", 1), frame(b"x" * 1000)],
    "a credit for nothing": [frame(b"\3" + struct.pack("<QQ", 1 << 60, 1))],
    "a short credit": [frame(b"\3")],
    "a large first message": [frame(b"\0" + bytes(FIRST_MESSAGE_BYTES + 1))],
    "a part too many": [frame(b"\0x", 1), frame(b"y")],
}


@pytest.mark.parametrize("units", UNITS.values(), ids=UNITS)
def test_whoever_breaks_the_rules_is_hung_up_on(folders, units):
    """Not only told goodbye, which he would have to heed."""
    server = Server(folders(), "ipc")
    with server.reader, server.shaken() as sock:
        sock.sendall(b"".join(units))
        assert ended(sock, 10)
        assert server.reader.messages() == []
        server.check_answers()
    server.transport.close()


def test_silent_peers_have_to_leave(server):
    before = len(os.listdir("/proc/self/fd"))
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(server.raw()) for _ in range(20)]
        socks[0].sendall(ZEROMQ_2)
        for sock in socks[15:]:
            sock.sendall(HELLO[:40])
        if server.options.scheme == "ipc":  # on tcp nobody gets so far without a key
            shaken = [stack.enter_context(server.shaken()) for _ in range(5)]
            shaken[0].sendall(frame(b"\3" + bytes(16)))
            shaken[1].sendall(frame(b""))  # goodbye, and he stays
            shaken[2].sendall(frame(b"\0first"))
            assert server.reader.wait(1, "it arrives") == [[b"first"]]
            server.reader.events[0][0].abort()  # is told goodbye, and stays
            socks += shaken
        left = [number for number, sock in enumerate(socks) if not ended(sock, FIRST_MESSAGE_S + 10)]
        assert left == []
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before, "all descriptors are given back")
    server.check_answers()


def test_there_are_not_many_silent_peers(server):
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(server.raw()) for _ in range(MAX_STRANGERS + 60)]
        assert all(ended(sock, 10) for sock in socks[:50])
        server.check_answers()
