"""What every transport must do with messages, waiting and descriptors. Each check takes a ``TransportSubject``."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack

from ray.abc.transport import Frame
from ray.clock import monotonic
from ray.testing.contracts._expect import eventually, expect, expect_equal, in_time, leaping_time, on_threads
from ray.testing.contracts._link import Check, Reader, TransportSubject, linked

MIB = 1024 * 1024


def an_address_has_a_scheme(subject: TransportSubject) -> None:
    server = subject.make()
    scheme, colon, rest = server.listen("contract-server").partition(":")
    expect(scheme.isalnum() and colon and rest, "listen returns an address of the form 'scheme:rest'")


def messages_arrive_whole(subject: TransportSubject) -> None:
    sent: list[list[Frame]] = [
        [b"one"],
        [b""],
        [b"", b"x", b""],
        [b"bytes", bytearray(b"bytearray"), memoryview(b"a memoryview")[2:]],
        [b"%d" % number for number in range(300)],
        [b"small", b"x" * 70_000, b"small"],
    ]
    with linked(subject) as link:
        for frames in sent:
            link.out.send(frames.copy())
        seen = link.at_server.wait(len(sent), "every message arrives")
        expect_equal(seen, [[bytes(f) for f in frames] for frames in sent], "a message arrives with its frames as sent")


def messages_arrive_once_and_in_order(subject: TransportSubject) -> None:
    with linked(subject) as link:
        for number in range(2000):
            link.out.send([b"%d" % number, b"x" * (number % 700)])
        seen = link.at_server.wait(2000, "every message arrives")
        link.out.send([b"last"])
        seen = link.at_server.wait(2001, "every message arrives")
        wanted = [b"%d" % number for number in range(2000)] + [b"last"]
        expect_equal([frames[0] for frames in seen], wanted, "messages of one thread arrive once and in order")


def large_messages_arrive(subject: TransportSubject) -> None:
    large = os.urandom(MIB) * 5
    frames = [b"head", large, b"", large[: 3 * MIB + 1], b"tail"]
    with linked(subject) as link:
        link.accept()
        link.out.send([frames[0], memoryview(frames[1]), *frames[2:]])
        link.out.send([large])
        seen = link.at_server.wait(2, "large messages arrive")
        expect(seen[0] == frames and seen[1] == [large], "large frames arrive intact")


def replies_come_back(subject: TransportSubject) -> None:
    with linked(subject) as link:
        accepted = link.accept()
        for number in range(100):
            accepted.send([b"reply %d" % number])
        seen = link.at_client.wait(100, "an accepted connection can be answered")
        expect_equal(seen, [[b"reply %d" % number] for number in range(100)], "replies arrive in order")
        expect(all(c is link.out for c, _ in link.at_client.events), "replies arrive on the connection that was opened")


def frames_belong_to_the_receiver(subject: TransportSubject) -> None:
    server, client = subject.make(), subject.make()
    address = server.listen("contract-server")
    with Reader(client), ExitStack() as stack:
        with Reader(server) as at_server:
            out = client.dial(address)
            out.send([b"hello"])
            at_server.wait(1, "every message arrives")
        small, large = bytearray(b"small"), bytearray(b"x" * (2 * MIB))
        out.send([small, memoryview(large)])
        received: list[Frame] = []

        def receive() -> None:
            while not received:
                for _, frames in server.poll(0.05):
                    received.extend(frames or [])

        in_time(receive, "every message arrives")
        stack.callback(received.clear)
        small[:], large[0] = b"other", ord("y")
        seen = bytes(received[0]), bytes(received[1])[:1]
        expect_equal(seen, (b"small", b"x"), "what the sender does to its memory later does not reach the receiver")
        for frame in received:
            view = memoryview(frame)
            if not view.readonly:
                view[0] = ord("z")
        expect_equal(
            (bytes(small), large[0]), (b"other", ord("y")), "what the receiver does to a frame is its own affair"
        )


def a_connection_keeps_its_context(subject: TransportSubject) -> None:
    with linked(subject) as link:
        accepted = link.accept()
        accepted.context = "mine"
        for number in range(3):
            link.out.send([b"%d" % number])
        link.at_server.wait(3, "every message arrives")
        connections = [connection for connection, _ in link.at_server.events]
        expect(all(c is accepted for c in connections), "all messages of a peer arrive on one connection object")
        expect_equal(connections[0].context, "mine", "a connection keeps the context it was given")


def connections_are_kept_apart(subject: TransportSubject) -> None:
    with linked(subject) as link:
        other = subject.make()
        outs = [link.out, other.dial(link.address), other.dial(link.address)]
        with Reader(other):
            for number in range(50):
                for name, out in enumerate(outs):
                    out.send([b"%d" % name, b"%d" % number])
            link.at_server.wait(150, "messages of several peers arrive")
            streams: dict[int, list[list[bytes]]] = {}
            for connection, frames in link.at_server.events:
                streams.setdefault(id(connection), []).append(frames or [])
            wanted = [[[b"%d" % name, b"%d" % number] for number in range(50)] for name in range(3)]
            expect_equal(sorted(streams.values()), wanted, "each peer's messages arrive on its own connection")


def threads_may_send(subject: TransportSubject) -> None:
    with linked(subject) as link:
        link.accept()

        def send(index: int) -> None:
            for number in range(200):
                link.out.send([b"%d" % index, b"%d" % number, bytes([index]) * (150_000 if number % 50 == 0 else 50)])

        on_threads(4, send, "send is safe from any thread")
        seen = link.at_server.wait(800, "every thread's messages arrive")
        for index in range(4):
            mine = [frames for frames in seen if frames[0] == b"%d" % index]
            wanted = [b"%d" % number for number in range(200)]
            expect_equal([frames[1] for frames in mine], wanted, "messages of one thread arrive in its order")
            expect(all(set(frames[2]) == {index} for frames in mine), "messages of several threads do not mix")


def send_never_blocks(subject: TransportSubject) -> None:
    server, client = subject.make(), subject.make()
    address = server.listen("contract-server")
    with Reader(server) as at_server, Reader(client):
        out = client.dial(address)
        out.send([b"hello"])
        at_server.wait(1, "every message arrives")
    chunk = os.urandom(MIB)

    def send() -> None:
        for number in range(32):
            out.send([b"%d" % number, chunk])

    in_time(send, "send never waits for the peer")
    with Reader(client), Reader(server) as at_server:
        seen = at_server.wait(32, "what the peer could not take at once arrives later")
        expect_equal([frames[0] for frames in seen], [b"%d" % number for number in range(32)], "messages stay in order")
        expect(all(frames[1] == chunk for frames in seen), "large frames arrive intact")
        eventually(lambda: out.queued_bytes == 0, "queued_bytes is 0 once the peer has everything")


def poll_waits_as_told(subject: TransportSubject) -> None:
    transport = subject.make()
    transport.listen("contract-server")
    seen: list[object] = []
    in_time(lambda: seen.extend(transport.poll(0)), "poll(0) returns at once", 1.0)
    calls = 0
    end = monotonic() + 0.5
    while monotonic() < end:
        seen.extend(transport.poll(0.05))
        calls += 1
    expect_equal(seen, [], "poll reports nothing where nothing happened")
    expect(calls <= 100, f"poll waits for its timeout instead of spinning: {calls} polls of 50 ms in 0.5 s")
    expect(calls >= 2, f"poll waits no longer than its timeout: {calls} polls of 50 ms in 0.5 s")


def poll_goes_by_the_real_clock(subject: TransportSubject) -> None:
    """See ``ray.clock``."""
    with leaping_time():
        poll_waits_as_told(subject)


def wake_ends_poll(subject: TransportSubject) -> None:
    transport = subject.make()

    def poll() -> None:
        transport.poll(None)

    transport.wake()
    in_time(poll, "wake ends the next poll")
    timer = threading.Timer(0.05, transport.wake)
    timer.start()
    in_time(poll, "wake ends a running poll")
    timer.join()
    for _ in range(100_000):
        transport.wake()
    in_time(poll, "many wakes end the next poll")


def descriptors_are_watched(subject: TransportSubject) -> None:
    transport = subject.make()
    read_fd, write_fd = os.pipe()
    threads: list[int] = []
    try:
        transport.watch(read_fd, lambda: threads.append(threading.get_ident()))
        transport.poll(0)
        expect_equal(threads, [], "a descriptor is called for only when it is readable")
        os.write(write_fd, b"x")
        for _ in range(3):
            in_time(lambda: transport.poll(5.0), "a readable descriptor ends poll", 4.0)
        expect(len(threads) >= 2, "a descriptor is called for as long as it is readable")
        threads.clear()
        transport.poll(1.0)
        expect_equal(set(threads), {threading.get_ident()}, "a descriptor is called for from inside poll")
        transport.unwatch(read_fd)
        threads.clear()
        transport.poll(0)
        expect_equal(threads, [], "unwatch ends the calls")
        os.read(read_fd, 1)
        os.write(write_fd, b"x")
        transport.watch(read_fd, lambda: threads.append(threading.get_ident()))
        transport.poll(1.0)
        expect(threads, "a descriptor can be watched again")
        transport.unwatch(read_fd)
    finally:
        os.close(read_fd)
        os.close(write_fd)


MESSAGES: tuple[Check, ...] = (
    an_address_has_a_scheme,
    messages_arrive_whole,
    messages_arrive_once_and_in_order,
    large_messages_arrive,
    replies_come_back,
    frames_belong_to_the_receiver,
    a_connection_keeps_its_context,
    connections_are_kept_apart,
    threads_may_send,
    send_never_blocks,
    poll_waits_as_told,
    poll_goes_by_the_real_clock,
    wake_ends_poll,
    descriptors_are_watched,
)
