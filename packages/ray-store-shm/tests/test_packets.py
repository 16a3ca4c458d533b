"""Packets over a stream: whole, with their own descriptors, however much the system takes or gives at a time."""

from __future__ import annotations

import _socket
import errno
import itertools
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ray_store_shm import descriptors
from ray_store_shm.packets import PacketSocket
from ray_store_shm.systems import Posix

pytestmark = pytest.mark.timeout(60)

BIG = bytes(range(256)) * 8192
Pair = tuple[PacketSocket, PacketSocket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, two = Posix().pair()
    with one, two:
        yield one, two


@pytest.fixture
def raw() -> Iterator[tuple[socket.socket, PacketSocket]]:
    """A socket that says what it likes, and its other end."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with one, Posix().open(two.detach()) as other:
        yield one, other


@pytest.fixture
def pipe() -> Iterator[int]:
    """A descriptor of a pipe that is closed if nobody has it any more; checked at the end."""
    read, write = os.pipe()
    yield write
    os.close(write)
    poller = select.poll()
    poller.register(read, 0)
    assert poller.poll(1000) == [(read, select.POLLHUP)], "a process still has the descriptor"
    os.close(read)


def framed(packet: bytes) -> bytes:
    return struct.pack("!I", len(packet)) + packet


def receive(sock: socket.socket, nbytes: int = 1 << 22) -> tuple[bytes, int]:
    """A packet, and how many descriptors came with it."""
    packet, fds, _ = descriptors.receive(sock, nbytes, 4)
    for fd in fds:
        os.close(fd)
    return packet, len(fds)


def reader(sock: PacketSocket, count: int) -> tuple[threading.Thread, list[tuple[bytes, int]]]:
    """A thread that receives so many packets, and where it puts them."""
    came: list[tuple[bytes, int]] = []
    sock.patience_s = 20

    def run() -> None:
        came.extend(receive(sock) for _ in range(count))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, came


def fill(sock: PacketSocket) -> int:
    """Send small packets until the system takes no more; returns how many."""
    count = 0
    while True:
        try:
            sock.send(b"fill", socket.MSG_DONTWAIT)
        except BlockingIOError:
            return count
        count += 1


# --- packets ----------------------------------------------------------------------------------------------------------


def test_each_packet_has_its_own_descriptors(pipe, pair):
    one, two = pair
    for packet, fds in ((b"a", [pipe]), (b"", []), (b"b" * 500, []), (b"c", [pipe, pipe]), (b"d", [pipe])):
        socket.send_fds(one, [packet], fds)
    assert [receive(two) for _ in range(5)] == [(b"a", 1), (b"", 0), (b"b" * 500, 0), (b"c", 2), (b"d", 1)]
    with pytest.raises(BlockingIOError):
        two.recv(10)
    one.close()
    assert receive(two) == (b"", 0)


def test_a_packet_that_comes_in_bytes_is_one_packet_with_its_descriptor(pipe, raw):
    sender, other = raw
    frame = framed(b"in bytes")
    socket.send_fds(sender, [frame[:1]], [pipe])
    for position in range(1, len(frame)):
        with pytest.raises(BlockingIOError):
            other.recvmsg(100, 100)
        sender.send(frame[position : position + 1])
    assert receive(other) == (b"in bytes", 1)


def test_nothing_is_read_beyond_a_packet(pipe, raw):
    """What is readable stays so for threads that wait for it."""
    sender, other = raw
    sender.send(framed(b"one") + framed(b"two"))
    socket.send_fds(sender, [framed(b"three")], [pipe])
    poller = select.poll()
    poller.register(other, select.POLLIN)
    for packet in ((b"one", 0), (b"two", 0), (b"three", 1)):
        assert poller.poll(0)
        assert receive(other) == packet
    assert not poller.poll(0)


def test_descriptors_in_the_middle_of_a_packet_are_dropped(pipe, raw):
    sender, other = raw
    frame = framed(b"packet")
    sender.send(frame[:5])
    socket.send_fds(sender, [frame[5:]], [pipe])
    packet, fds, flags = descriptors.receive(other, 100, 4)
    assert (packet, fds, flags & socket.MSG_CTRUNC) == (b"packet", [], socket.MSG_CTRUNC)


@pytest.mark.parametrize("said", [framed(b"half")[:2], framed(b"half")[:6]])
def test_an_end_in_the_middle_of_a_packet_is_an_end(pipe, raw, said):
    sender, other = raw
    socket.send_fds(sender, [said], [pipe])
    sender.close()
    assert receive(other) == (b"", 1), "for the caller, which has to close it"
    assert receive(other) == (b"", 0)


def test_who_closes_in_the_middle_of_a_packet_keeps_no_descriptor(pipe, raw):
    sender, other = raw
    socket.send_fds(sender, [framed(b"half")[:6]], [pipe])
    with pytest.raises(BlockingIOError):
        other.recvmsg(100, 100)
    other.close()


def test_a_packet_that_is_too_long_is_an_error_before_it_is_read(pipe, raw):
    sender, other = raw
    socket.send_fds(sender, [struct.pack("!I", 2**32 - 1)], [pipe])
    for _ in range(2):
        with pytest.raises(OSError, match="too long"):
            other.recvmsg(512, 100)


# --- what the system does not take at once ----------------------------------------------------------------------------


def test_without_patience_the_same_packet_is_sent_again_until_it_has_gone(pipe, pair):
    one, two = pair
    with pytest.raises(BlockingIOError):
        socket.send_fds(one, [BIG], [pipe])
    thread, came = reader(two, 2)
    poller = select.poll()
    poller.register(one, select.POLLOUT)
    tries = 0
    while not came:
        assert poller.poll(10_000)
        try:
            one.send(BIG)
            break
        except BlockingIOError:
            tries += 1
    one.send(b"next")
    thread.join(20)
    assert came == [(BIG, 1), (b"next", 0)]
    assert tries > 1


def test_with_patience_a_call_ends_when_the_packet_has_gone(pair):
    one, two = pair
    one.patience_s = 20
    thread, came = reader(two, 3)
    for packet in (BIG, b"small", BIG[1:]):
        assert one.send(packet) == len(packet)
    thread.join(20)
    assert [packet for packet, _ in came] == [BIG, b"small", BIG[1:]]


def test_patience_ends(pair):
    one, two = pair
    one.patience_s = two.patience_s = 0.1
    with pytest.raises(BlockingIOError):
        two.recv(10)
    with pytest.raises(BlockingIOError):
        one.send(BIG)


def test_what_must_not_wait_is_sent_whole_or_not_at_all(pair):
    one, two = pair
    one.patience_s = 20
    count = fill(one)
    assert count > 10
    two.patience_s = 1
    assert [two.recv(10) for _ in range(count)] == [b"fill"] * count
    one.send(b"after", socket.MSG_DONTWAIT)
    assert two.recv(10) == b"after"
    with ThreadPoolExecutor(1) as other:
        other.submit(one._sending.acquire).result()
        with pytest.raises(BlockingIOError):
            one.send(b"while another thread is sending", socket.MSG_DONTWAIT)
        other.submit(one._sending.release).result()


def interrupted_in(call: Callable[[int], None], times: int) -> set[int]:
    """Call with 0, 1, 2 ... until signals have ended so many calls, at all kinds of moments; returns which."""

    def interrupt(*_: object) -> None:
        raise TimeoutError("by a signal")

    before = signal.signal(signal.SIGALRM, interrupt)
    found: set[int] = set()
    try:
        for number in itertools.count():
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.00001 * (1 + number % 97))
                    call(number)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except TimeoutError:
                found.add(number)
            if len(found) >= times:
                return found
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    raise AssertionError


def numbered(number: int) -> bytes:
    return number.to_bytes(4, "big") + BIG[: 20_000 + number % 200 * 1000]


def number_of(packet: bytes) -> int:
    number = int.from_bytes(packet[:4], "big")
    assert packet == numbered(number), "it is torn"
    return number


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # where the signal comes in a callback
def test_a_sender_that_a_signal_ends_does_not_tear_its_packet(pipe, pair):
    """What was begun is finished, by the next call if need be."""
    one, two = pair
    one.patience_s = two.patience_s = 20
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.extend(iter(lambda: receive(two)[0], b"end")))
    thread.start()
    said: list[int] = []

    def say(number: int) -> None:
        said.append(number)
        socket.send_fds(one, [numbered(number)], [pipe])

    interrupted = interrupted_in(say, 30)
    one.send(b"end")
    thread.join(20)
    numbers = [number_of(packet) for packet in received]
    assert numbers == sorted(set(numbers)), "each once, in order"
    assert set(said) - interrupted <= set(numbers) <= set(said), "none is taken for another"


def test_a_reader_that_a_signal_ends_does_not_tear_a_packet(pair):
    one, two = pair
    one.patience_s = two.patience_s = 20
    said: list[int] = []
    enough = threading.Event()

    def say() -> None:
        while not enough.is_set():
            said.append(len(said))
            one.send(numbered(said[-1]))
        one.send(b"end")

    thread = threading.Thread(target=say)
    thread.start()
    received: list[bytes] = []
    interrupted = interrupted_in(lambda _: received.append(two.recv(1 << 22)), 30)
    enough.set()
    received += iter(lambda: two.recv(1 << 22), b"end")
    thread.join(20)
    numbers = [number_of(packet) for packet in received]
    assert numbers == sorted(set(numbers)), "each once, in order"
    assert len(said) - len(numbers) <= len(interrupted), "one is lost at most, if it had been read when the signal came"


def test_packets_of_several_threads_do_not_mix(pair):
    one, two = pair
    one.patience_s = 20
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    thread, came = reader(two, 4 * 50)

    def say(name: bytes) -> None:
        for number in range(50):
            one.send(name + number.to_bytes(2, "big") + name * 9000)

    threads = [threading.Thread(target=say, args=(name,)) for name in (b"a", b"b", b"c", b"d")]
    for talker in threads:
        talker.start()
    for talker in [*threads, thread]:
        talker.join(30)
    for name in (b"a", b"b", b"c", b"d"):
        mine = [packet for packet, _ in came if packet[:1] == name]
        assert mine == [name + number.to_bytes(2, "big") + name * 9000 for number in range(50)]


# --- what other systems do --------------------------------------------------------------------------------------------


def once_too_long(name: str) -> Callable[..., object]:
    """As the method of the name, but the first call that has something to do with descriptors fails as on BSD."""
    calls: list[object] = []

    def call(self: socket.socket, first: object, ancillary: object, *rest: object) -> object:
        if ancillary and not calls:
            calls.append(ancillary)
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        return getattr(_socket.socket, name)(self, first, ancillary, *rest)

    return call


@pytest.mark.parametrize("patience_s", [0, 20])
def test_descriptors_that_do_not_fit_into_a_full_buffer_go_later(pipe, pair, monkeypatch, patience_s):
    one, two = pair
    one.patience_s = patience_s
    monkeypatch.setattr(socket.socket, "sendmsg", once_too_long("sendmsg"), raising=False)
    if not patience_s:
        with pytest.raises(BlockingIOError):
            socket.send_fds(one, [b"packet"], [pipe])
    socket.send_fds(one, [b"packet"], [pipe])
    assert receive(two) == (b"packet", 1)
    with pytest.raises(BlockingIOError):
        two.recv(10)


def test_a_packet_comes_without_the_descriptors_that_this_process_may_not_have(pair, monkeypatch):
    one, two = pair
    one.send(b"packet")
    one.send(b"next")
    monkeypatch.setattr(socket.socket, "recvmsg", once_too_long("recvmsg"), raising=False)
    assert [receive(two), receive(two)] == [(b"packet", 0), (b"next", 0)]


def test_descriptors_are_not_inherited_where_the_system_cannot_see_to_it(pipe, pair, monkeypatch):
    monkeypatch.setattr(descriptors, "_CLOEXEC", 0)
    one, two = pair
    socket.send_fds(one, [b"x"], [pipe])
    _, (fd,), _ = descriptors.receive(two, 10, 1)
    assert not os.get_inheritable(fd)
    os.close(fd)
