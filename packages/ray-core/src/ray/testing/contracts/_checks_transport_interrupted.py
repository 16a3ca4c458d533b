"""What every transport must do when finalisers and signal handlers use it inside calls of it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import ray.protocol
from ray.abc.transport import Connection, Frame, Transport
from ray.clock import monotonic
from ray.testing.contracts._expect import eventually, expect, expect_equal, in_time
from ray.testing.contracts._link import Check, Link, Reader, TransportSubject, linked
from ray.testing.interruption import interrupted

#: A large frame, and messages that come together.
_MESSAGES: list[list[bytes]] = [[b"one"], [b"two", b"", b"frames"], [b"large", b"x" * 150_000], [b"four"], [b"five"]]
#: Points of one call; far more than any transport has. What is beyond is not tried.
_MOST_POINTS = 600
_STEP = 3
#: So many signals interrupt calls, and when each of them comes, one after the other.
_SIGNALS = 400
_PAUSES_S = (0.00005, 0.0001, 0.0002, 0.0005, 0.001)
#: Messages under way while they come.
_BURST = 30


def _is_code_of(transport: Transport, path: str) -> bool:
    files = [
        ray.protocol.__file__,
        *(sys.modules[kind.__module__].__file__ or "" for kind in type(transport).__mro__[:-1]),
    ]
    return path.startswith(tuple(os.path.dirname(file) + os.sep for file in files))


def _passed(transport: Transport, call: Callable[[], object]) -> int:
    """The number of points of a call. Python 3.13 knows all of a function only when it is called again."""
    interrupted(call, 0, int, lambda path: _is_code_of(transport, path))
    return interrupted(call, 0, int, lambda path: _is_code_of(transport, path))[1]


def polls_interrupt_polls(subject: TransportSubject) -> None:
    server, client = subject.make(), subject.make()
    out = client.dial(server.listen("contract-server"))
    taken: list[tuple[Connection, list[bytes] | None]] = []

    def poll(timeout_s: float) -> None:
        for connection, frames in server.poll(timeout_s):
            taken.append((connection, None if frames is None else [bytes(frame) for frame in frames]))

    def take(count: int) -> None:
        def is_done() -> bool:
            if len(taken) < count:
                poll(0.05)
            return len(taken) >= count

        eventually(is_done, "every message arrives, whatever polls inside a poll")

    def has_late() -> bool:
        if [b"late"] not in [frames for _, frames in taken]:
            poll(0.05)
        return [b"late"] in [frames for _, frames in taken]

    def interrupt() -> None:
        out.send([b"late"])
        eventually(has_late, "a poll inside a poll returns what has arrived, like any other")

    with Reader(client):
        out.send([b"first"])
        _passed(server, lambda: take(1))
        taken.clear()
        point = 0
        while point < _MOST_POINTS:
            point += _STEP
            for message in _MESSAGES:
                out.send(list(message))
            _, points = interrupted(lambda: poll(0.05), point, interrupt, lambda path: _is_code_of(server, path))
            wanted = [*_MESSAGES, [b"late"]] if points >= point else _MESSAGES
            take(len(wanted))
            seen = [frames for _, frames in taken]
            expect_equal(seen, wanted, "messages arrive once and in order if a poll interrupts a poll")
            taken.clear()
            if points < point:
                break
        expect(point > _STEP, "a poll has points at which it can be interrupted")


def sends_interrupt_sends(subject: TransportSubject) -> None:
    with linked(subject) as link:
        out, at_server, at_client = link.out, link.at_server, link.at_client
        accepted = link.accept()
        large: list[Frame] = [b"outer", b"x" * 300_000]

        def interrupt() -> None:
            out.send([b"inner"])
            eventually(lambda: [b"inner"] in at_server.messages(), "a message arrives, sent inside a send")
            for count in (1, 2):  # the poll that takes the first one may have begun before the send
                accepted.send([b"answer"])
                eventually(
                    lambda count=count: len(at_client.messages()) >= count,  # type: ignore[misc]
                    "another thread may poll while a send is interrupted",
                )

        point, points = 1, _passed(link.client, lambda: out.send(list(large)))
        at_server.wait(2, "a message arrives")
        while point <= min(points, _MOST_POINTS):
            at_server.events.clear()
            at_client.events.clear()
            _, points = interrupted(
                lambda: out.send(list(large)), point, interrupt, lambda path: _is_code_of(link.client, path)
            )
            out.send([b"last"])
            seen = at_server.wait(3 if point <= points else 2, "every message arrives, whatever sends inside a send")
            heads = [frames[0] for frames in seen]
            expect(
                sorted(heads) in ([b"inner", b"last", b"outer"], [b"last", b"outer"]) and heads[-1] == b"last",
                f"messages arrive once, and those of one thread in order, if a send interrupts a send; came: {heads}",
            )
            expect([*large] in seen, "a message arrives as it was sent if a send interrupts a send")
            point += _STEP


def what_a_send_has_begun_goes_on_inside(subject: TransportSubject) -> None:
    """The code that interrupts it may wait for what only that message brings."""
    server, client = subject.make(), subject.make()
    out = client.connect(server.listen("contract-server"))
    large: list[Frame] = [b"outer", b"x" * 300_000]

    def is_gone() -> bool:
        if out.queued_bytes:
            client.poll(0.02)
        return not out.queued_bytes

    def wait_inside() -> None:
        client.catch_up()
        eventually(is_gone, "catch_up and poll go on with what a send that they interrupt has begun")

    with Reader(server) as at_server:
        out.send([b"hello"])
        at_server.wait(1, "a message arrives")
        point, points = 1, _passed(client, lambda: out.send(list(large)))
        wait_inside()
        sent = 2
        while point <= min(points, _MOST_POINTS):
            _, points = interrupted(
                lambda: out.send(list(large)), point, wait_inside, lambda path: _is_code_of(client, path)
            )
            wait_inside()
            sent += 1
            point += _STEP
        seen = at_server.wait(1 + sent, "messages arrive")[1:]
        expect(seen == [large] * sent, "messages arrive as they were sent")


def a_message_is_sent_by_one_of_two(subject: TransportSubject) -> None:
    """The code that interrupts a send may have to send the same, and cannot know how far that has come."""
    with linked(subject) as link:
        link.accept()
        for message in ([b"first"], [b"first", b"x" * 100_000, b"last"]):
            link.at_server.events.clear()
            points = _passed(link.client, lambda message=message: link.out.send(message.copy()))  # type: ignore[misc]
            link.at_server.wait(2, "a message arrives")
            point = 1
            while point <= min(points, _MOST_POINTS):
                _two_send(link, message, point)
                point += 1


def _two_send(link: Link, message: list[bytes], point: int) -> None:
    """Interrupt a send by one of the same message."""
    at_server, out = link.at_server, link.out
    frames: list[Any] = message.copy()
    wanted = [message]
    at_server.events.clear()

    def interrupt() -> None:
        if frames[0] is not None:
            frames[0] = None
            out.send(message.copy())
        link.client.catch_up()
        thread = threading.Thread(target=out.send, args=([b"other"],), name="contract-check", daemon=True)
        thread.start()
        wanted.append([b"other"])
        eventually(
            lambda: [b"other"] in at_server.messages(),
            "what another thread sends while a send is interrupted arrives",
        )
        expect_equal(at_server.messages(), wanted, "code that puts None in the first frame's place has sent it")

    interrupted(lambda: out.send(frames), point, interrupt, lambda path: _is_code_of(link.client, path))
    expect(frames[0] is None, "send puts None in the place of a list's first frame")
    out.send([b"end"])
    eventually(lambda: [b"end"] in at_server.messages(), "a message arrives")
    expect_equal(at_server.messages(), [*wanted, [b"end"]], "a message that two were to send is sent once")


def dials_interrupt_dials(subject: TransportSubject) -> None:
    client = subject.make()
    servers = [subject.make(), subject.make()]
    addresses = [server.listen(f"contract-server-{number}") for number, server in enumerate(servers)]
    made: list[Connection] = []

    def dial(number: int) -> None:
        connection = client.dial(addresses[number])
        made.append(connection)
        connection.send([b"hello"])

    def dial_at(point: int, number: int) -> int:
        """Returns how many points there are."""
        _, points = interrupted(lambda: dial(0), point, lambda: dial(number), lambda path: _is_code_of(client, path))
        return points

    with Reader(servers[0]) as first, Reader(servers[1]) as second, Reader(client):
        point, points = 1, _passed(client, lambda: dial(0))
        eventually(lambda: len(first.messages()) == len(made), "a connection carries messages")
        while point <= min(points, _MOST_POINTS):
            for number in (0, 1):

                def attempt(point: int = point, number: int = number) -> None:
                    nonlocal points
                    points = dial_at(point, number)

                in_time(attempt, "a dial that interrupts a dial ends, and so does that one")
            eventually(
                lambda: len(first.messages()) + len(second.messages()) == len(made),
                "a connection that was dialled inside a dial, or around one, carries messages",
            )
            first.events.clear()
            second.events.clear()
            for connection in made:
                connection.abort()
            eventually(
                lambda: len(first.ends()) + len(second.ends()) == len(made), "poll reports a peer that has closed"
            )
            first.events.clear()
            second.events.clear()
            made.clear()
            point += _STEP


def what_dials_goes_on_inside(subject: TransportSubject) -> None:
    """The code that interrupts a poll may wait for what is still being dialled."""
    server, client = subject.make(), subject.make()
    address = server.listen("contract-server")
    rule = "a poll inside a poll goes on with what is being dialled"
    with Reader(server) as at_server:
        point = points = 1
        while point <= min(points, _MOST_POINTS):
            out = client.dial(address)
            out.send([b"%d" % point])

            def has_come(point: int = point) -> bool:
                if [b"%d" % point] not in at_server.messages():
                    client.poll(0.02)
                return [b"%d" % point] in at_server.messages()

            def wait(has_come: Callable[[], bool] = has_come) -> None:
                eventually(has_come, rule)

            _, points = interrupted(lambda: client.poll(0.02), point, wait, lambda path: _is_code_of(client, path))
            wait()
            out.close()
            point += _STEP
        eventually(lambda: len(at_server.ends()) == len(at_server.messages()), "poll reports a peer that has closed")
        wanted = [[b"%d" % number] for number in range(1, point, _STEP)]
        expect_equal(at_server.messages(), wanted, "what was sent while it dialled arrives once")


def signals_interrupt_calls(subject: TransportSubject) -> None:
    """Signals come inside calls of extension modules as well, if these let them."""
    if threading.current_thread() is not threading.main_thread():  # where Python runs no handlers
        return
    server, client = subject.make(), subject.make()
    out = client.dial(server.listen("contract-server"))
    ending = threading.Event()
    answered: set[bytes] = set()
    sent = handled = 0

    def answer() -> None:
        while not ending.is_set():
            for connection, frames in server.poll(0.05):
                if frames is not None:
                    connection.send([bytes(frame) for frame in frames])

    def ask() -> None:
        nonlocal sent
        for _ in range(_BURST):
            sent += 1
            question = b"%d" % sent
            out.send([question, b"x" * 200])

        def is_answered() -> bool:
            if question not in answered:
                answered.update(bytes(frames[0]) for _, frames in client.poll(0.05) if frames is not None)
            return question in answered

        eventually(is_answered, "what is sent is answered, whatever a signal handler sends and polls in between")

    def handle(*_: Any) -> None:
        nonlocal handled
        handled += 1
        ask()
        if handled < _SIGNALS:
            signal.setitimer(signal.ITIMER_REAL, _PAUSES_S[handled % len(_PAUSES_S)])

    thread = threading.Thread(target=answer, name="contract-check", daemon=True)
    thread.start()
    previous = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, _PAUSES_S[0])
    end = monotonic() + 10
    try:
        while handled < _SIGNALS and monotonic() < end:
            ask()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        ending.set()
        server.wake()
        thread.join(5)


#: {rule: check}
INTERRUPTED: tuple[Check, ...] = (
    polls_interrupt_polls,
    sends_interrupt_sends,
    what_a_send_has_begun_goes_on_inside,
    a_message_is_sent_by_one_of_two,
    dials_interrupt_dials,
    what_dials_goes_on_inside,
    signals_interrupt_calls,
)
