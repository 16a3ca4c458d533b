"""What every transport must do when finalisers and signal handlers use it inside calls of it."""

from __future__ import annotations

import os
import sys

import ray.protocol
from ray.abc.transport import Connection, Frame, Transport
from ray.testing.contracts._expect import eventually, expect, expect_equal
from ray.testing.contracts._link import Check, Reader, TransportSubject
from ray.testing.interruption import interrupted

#: A large frame, and messages that come together.
_MESSAGES: list[list[bytes]] = [[b"one"], [b"two", b"", b"frames"], [b"large", b"x" * 150_000], [b"four"], [b"five"]]
#: Points of one call; far more than any transport has. What is beyond is not tried.
_MOST_POINTS = 600
_STEP = 3


def _is_code_of(transport: Transport, path: str) -> bool:
    files = [
        ray.protocol.__file__,
        *(sys.modules[kind.__module__].__file__ or "" for kind in type(transport).__mro__[:-1]),
    ]
    return path.startswith(tuple(os.path.dirname(file) + os.sep for file in files))


def polls_interrupt_polls(subject: TransportSubject) -> None:
    server, client = subject.make(), subject.make()
    out = client.connect(server.listen("contract-server"))
    taken: list[tuple[Connection, list[bytes] | None]] = []

    def poll(timeout_s: float) -> None:
        for connection, frames in server.poll(timeout_s):
            taken.append((connection, None if frames is None else [bytes(frame) for frame in frames]))

    def take(count: int) -> None:
        def is_done() -> bool:
            if len(taken) < count:
                poll(0.05)
            return len(taken) >= count

        eventually(is_done, "every message arrives, whoever polls inside a poll")

    def interrupt() -> None:
        out.send([b"late"])
        poll(0.05)

    with Reader(client):
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
    server, client = subject.make(), subject.make()
    address = server.listen("contract-server")
    with Reader(server) as at_server, Reader(client):
        out = client.connect(address)
        out.send([b"hello"])
        at_server.wait(1, "an accepted connection shows itself by its first message")
        large: list[Frame] = [b"outer", b"x" * 300_000]
        points = point = 1
        while point <= min(points, _MOST_POINTS):
            at_server.events.clear()
            _, points = interrupted(
                lambda: out.send(list(large)),
                point,
                lambda: out.send([b"inner"]),
                lambda path: _is_code_of(client, path),
            )
            out.send([b"last"])
            seen = at_server.wait(3 if point <= points else 2, "every message arrives, whoever sends inside a send")
            heads = [frames[0] for frames in seen]
            expect(
                sorted(heads) in ([b"inner", b"last", b"outer"], [b"last", b"outer"]) and heads[-1] == b"last",
                f"messages arrive once, and those of one thread in order, if a send interrupts a send; came: {heads}",
            )
            expect([*large] in seen, "a message arrives as it was sent if a send interrupts a send")
            point += _STEP


#: {rule: check}
INTERRUPTED: tuple[Check, ...] = (polls_interrupt_polls, sends_interrupt_sends)
