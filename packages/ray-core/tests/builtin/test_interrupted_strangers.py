"""Peers that have said nothing yet, where calls interrupt calls: one that polls inside a poll lets them in, or out."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import ray.abc.strangers
import ray.builtin
from ray.abc.strangers import FIRST_MESSAGE_BYTES, Strangers
from ray.builtin import unix_listener
from ray.builtin.unix_transport import UnixTransport
from ray.testing.interruption import interrupted

_CODE = os.path.dirname(ray.builtin.__file__) + os.sep
_LIMIT = 2


def in_strangers(path: str) -> bool:
    return path == ray.abc.strangers.__file__


def in_parts(path: str) -> bool:
    return in_strangers(path) or path.startswith(_CODE)


@pytest.fixture
def make(tmp_path) -> Iterator[Callable[[], UnixTransport]]:
    made: list[UnixTransport] = []

    def make_one() -> UnixTransport:
        made.append(UnixTransport(str(tmp_path)))
        return made[-1]

    yield make_one
    for transport in made:
        transport.close()


def crowd(now: list[float]) -> Strangers[int]:
    now[0] = 0.0
    strangers: Strangers[int] = Strangers(_LIMIT, clock=lambda: now[0])
    for key in range(5):
        strangers.arrived(key)
    return strangers


INTERRUPTIONS: dict[str, Callable[[Strangers[int]], object]] = {
    "some leave": lambda strangers: [strangers.left(key) for key in (0, 1, 3)],
    "all leave": lambda strangers: [strangers.left(key) for key in range(5)],
    "one arrives": lambda strangers: strangers.arrived(9),
    "one is pushed out": Strangers.oldest,
    "they are counted": Strangers.surplus,
}


@pytest.mark.parametrize("late_s", [0.0, 10.0])
@pytest.mark.parametrize("interrupt", INTERRUPTIONS.values(), ids=INTERRUPTIONS)
@pytest.mark.parametrize("call", ["surplus", "oldest", "wait_s"])
def test_they_come_and_go_while_they_are_looked_at(call, interrupt, late_s) -> None:
    now = [0.0]
    point = points = 1
    while point <= points:
        strangers = crowd(now)
        now[0] = late_s
        looking = partial(getattr(strangers, call), *([None] if call == "wait_s" else []))
        found, points = interrupted(looking, point, partial(interrupt, strangers), in_strangers)
        if call == "surplus":
            assert not set(found) & set(strangers.deadlines)
            assert len(set(found)) == len(found)
        point += 1
    assert point > 2


def test_a_peer_is_let_in_once(make) -> None:
    """It may send much after its first message, whichever poll has let it in and heard that."""
    server, client = make(), make()
    address = server.listen("server")
    heard: list[list[bytes]] = []

    def poll() -> None:
        heard.extend([bytes(frame) for frame in frames] for _, frames in server.poll(0.01) if frames is not None)

    point = points = 1
    while point <= points:
        heard.clear()
        out = client.connect(address)
        out.send([b"hello"])
        _, points = interrupted(poll, point, poll, in_parts)
        out.send([b"x" * (2 * FIRST_MESSAGE_BYTES)])
        for _ in range(100):
            if len(heard) == 2:
                break
            client.poll(0)
            poll()
        assert [len(frames[0]) for frames in heard] == [5, 2 * FIRST_MESSAGE_BYTES], point
        assert len(server._listener.strangers) == 0
        out.abort()
        poll()
        point += 1
    assert point > 10


def test_a_pause_ends_once(make, monkeypatch) -> None:
    """Where there was no descriptor for one more: no matter who ends the pause, peers are let in afterwards."""
    monkeypatch.setattr(unix_listener, "PAUSE_S", 0.0)
    server, client = make(), make()
    address = server.listen("server")
    listener = server._listener
    point = points = 1
    while point <= points:
        real, lacking = listener._sock, [errno.EMFILE]

        class Lacking:
            """Has no descriptor the first time."""

            def accept(self, real=real, lacking=lacking):
                if lacking:
                    raise OSError(lacking.pop(), "no descriptor")
                return real.accept()

        listener._sock = Lacking()
        out = client.connect(address)
        heard: list[object] = []

        def poll(heard=heard) -> None:
            heard.extend(server.poll(0.01))

        _, points = interrupted(poll, point, poll, in_parts)
        listener._sock = real
        out.abort()  # it may have had to leave, as the oldest of those who have said nothing
        heard.clear()
        other = client.connect(address)
        other.send([b"hello"])
        for _ in range(100):
            if heard:
                break
            poll()
        assert heard, point
        other.abort()
        poll()
        point += 1
    assert point > 10
