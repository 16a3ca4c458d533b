"""Numbers of descriptors that have passed on to another peer: what is due to the one before does nothing to it."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import time

import pytest

from ray.abc.strangers import FIRST_MESSAGE_S
from ray.testing import eventually
from ray_transport_zmq.descriptors import hang_up, inode
from ray_transport_zmq.transport import ZmqTransport

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
HELLO = GREETING + bytes([4, len(READY)]) + READY

#: ``python -c PEER folder address``: sends "first", says that it is connected, and ends in order when told to.
PEER = """
import sys
from ray_transport_zmq.transport import ZmqTransport
transport = ZmqTransport(sys.argv[1])
connection = transport.connect(sys.argv[2])
connection.send([b"first"])
print("connected", flush=True)
sys.stdin.readline()
transport.close()
"""


def frame(body: bytes) -> bytes:
    """A frame of ZMTP 3 with a long length."""
    return struct.pack(">BQ", 2, len(body)) + body


class Peer:
    """A peer that has connected, and says what the test has it say."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)

    def connect(self, address: str) -> None:
        """Until ZeroMQ at the other end is through with its greetings."""
        self.sock.connect(address.removeprefix("ipc://"))
        self.sock.sendall(HELLO)
        heard = b""
        while b"Socket-Type" not in heard:
            data = self.sock.recv(4096)
            assert data
            heard += data

    def say(self, *units: bytes) -> None:
        self.sock.sendall(b"".join(map(frame, units)))

    def has_ended(self) -> bool:
        """Whether the other end has hung up; what it says before is skipped."""
        self.sock.setblocking(False)
        try:
            while self.sock.recv(65536):
                pass
        except BlockingIOError:
            return False
        finally:
            self.sock.settimeout(20)
        return True


class Server:
    """Polled when the test says so, so that ZeroMQ has more to tell than it was asked for yet."""

    def __init__(self, folder: str) -> None:
        self.transport = ZmqTransport(folder)
        self.address = self.transport.listen("server")
        self.hub = self.transport._hubs[0]
        self.heard: list[tuple[object, list[bytes] | None]] = []

    def poll(self) -> None:
        for connection, frames in self.transport.poll(0.01):
            self.heard.append((connection, None if frames is None else [bytes(part) for part in frames]))

    def poll_until(self, condition, within_s=20.0):
        end = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < end
            self.poll()

    def messages(self) -> list[bytes]:
        return [frames[0] for _, frames in self.heard if frames is not None]

    def ends(self) -> list[object]:
        return [connection for connection, frames in self.heard if frames is None]


@pytest.fixture
def server(folders):
    server = Server(folders())
    yield server
    server.transport.close()


@pytest.fixture
def peers():
    with contextlib.ExitStack() as stack:

        def make() -> Peer:
            peer = Peer()
            stack.enter_context(peer.sock)
            return peer

        yield make


def take_over(server: Server, fd: int, later: Peer) -> None:
    """Have ``later`` connect on the number of a descriptor that has just been closed."""
    fillers = []
    try:
        while (number := os.open(os.devnull, os.O_RDONLY)) != fd:
            assert number < fd
            fillers.append(number)
        os.close(number)
        later.connect(server.address)
        assert inode(fd), "it has another number"
    finally:
        for number in fillers:
            os.close(number)


def only_fd(server: Server) -> int:
    (fd,) = server.hub.peer_fds
    return fd


def ended(fd: int, number: int) -> None:
    """Wait until ZeroMQ has closed the socket of this number."""
    eventually(lambda: inode(fd) != number, 20)


def say_and_make_way(server: Server, first: Peer, later: Peer, *units: bytes) -> int:
    """Have ``first`` connect, say something and end, and ``later`` take its number, before any thread polls."""
    first.connect(server.address)
    server.poll_until(lambda: len(server.hub.monitor.strangers) == 1)
    (fd,) = server.hub.monitor.strangers.deadlines
    number = inode(fd)
    first.say(*units)
    first.sock.close()
    ended(fd, number)
    take_over(server, fd, later)
    return int(fd)


def check_lives(server: Server, later: Peer) -> None:
    """It is heard, and its end is told when it comes."""
    later.say(b"\0later")
    server.poll_until(lambda: b"later" in server.messages())
    connection = next(connection for connection, frames in server.heard if frames == [b"later"])
    for _ in range(3):
        server.poll()
    assert not later.has_ended()
    assert server.hub.monitor.knows(connection)
    later.sock.close()
    server.poll_until(lambda: connection in server.ends())


def test_the_goodbye_of_one_that_is_gone(server, peers, folders):
    """It was polled for only after its number had passed on."""
    later = peers()
    command = [sys.executable, "-c", PEER, folders(), server.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "connected\n"
        server.poll_until(server.messages)
        for _ in range(3):
            server.poll()  # until it waits for what is new
        fd = only_fd(server)
        number = inode(fd)
        process.stdin.write("end\n")
        process.stdin.flush()
        ended(fd, number)
    take_over(server, fd, later)
    server.poll_until(server.ends)
    check_lives(server, later)


@pytest.mark.parametrize("units", [[b"\x09unknown"], [b"\3" + struct.pack("<QQ", 1 << 60, 1)], [b""]])
def test_what_breaks_the_rules_of_one_that_is_gone(server, peers, units):
    """It was a stranger still."""
    first, later = peers(), peers()
    say_and_make_way(server, first, later, *units)
    for _ in range(3):
        server.poll()
    check_lives(server, later)
    assert server.messages() == [b"later"]


def test_the_first_message_of_one_that_is_gone(server, peers):
    """It does not give the one that has its number now the right to stay, and that one is the one whose end is told."""
    first, later = peers(), peers()
    fd = say_and_make_way(server, first, later, b"\0first")
    server.poll_until(server.ends)
    assert server.messages() == [b"first"]
    assert list(server.hub.monitor.strangers.deadlines) == [fd]
    server.poll_until(later.has_ended, FIRST_MESSAGE_S + 20)


def test_both_have_said_something_before_anybody_looked(server, peers):
    """Whichever is heard first: the end of each is told, once."""
    first, later = peers(), peers()
    say_and_make_way(server, first, later, *[b"\0first"] * 3)
    later.say(b"\0before")
    server.poll_until(lambda: len(server.messages()) == 4 and server.ends())
    check_lives(server, later)
    assert len(server.ends()) == 2


def test_a_number_that_is_no_socket_any_more(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with open(tmp_path / "file", "w") as file:
        status = os.fstat(file.fileno())
        for number in (status.st_ino, 0, None, 1):
            hang_up(file.fileno(), number)
    assert len(os.listdir("/proc/self/fd")) == before
