"""The director calls the data port of a node that joins; what listens there, and the node, are the test."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ray.messages import objects
from ray.runtime.cluster.data_calls import DataCalls

NODE = b"\0\0\0\2"


class World:
    """One node that joins."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}
        self.sent: list[Any] = []
        self.said: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.member: Any = SimpleNamespace(node=NODE, send=self.sent.append)
        transport: Any = SimpleNamespace(watch=self.watched.__setitem__, unwatch=self.watched.pop)
        self.calls = DataCalls(transport)
        self.calls.begin(self.member, self.said.append)

    def answers(self, port: int | None = None, host: str = "127.0.0.1") -> None:
        self.calls.answered(self.member, objects.Door(host, self.port if port is None else port))

    def poll(self) -> None:
        """As a transport does it."""
        poll = select.poll()
        for fd in self.watched:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(2000):
            self.watched[fd]()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.calls.give_up(NODE)
    assert made.watched == {}
    made.listener.close()


def test_a_port_that_answers_is_open(world: World) -> None:
    assert world.sent == [objects.AskDoor()]
    assert world.calls.place_of(NODE) == ""
    world.answers()
    world.answers()
    assert len(world.watched) == 1
    assert world.calls.place_of(NODE) == f"127.0.0.1:{world.port}"
    connection, _ = world.listener.accept()
    with connection:
        connection.sendall(b"nonce")
        world.poll()
        assert world.said == [""]
        connection.settimeout(2)
        assert connection.recv(10) == b""
    assert world.calls.place_of(NODE) == ""


def test_a_node_that_serves_nobody_is_not_called(world: World) -> None:
    world.answers(0, "")
    assert world.said == [""]


def test_what_hangs_up_is_none(world: World) -> None:
    world.answers()
    world.listener.accept()[0].close()
    world.poll()
    assert world.said == ["the connection was closed"]


def test_what_resets_the_connection_is_none(world: World) -> None:
    world.answers()
    connection, _ = world.listener.accept()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    world.poll()
    assert world.said == ["Connection reset by peer"]


def test_nobody_listens(world: World) -> None:
    world.listener.close()
    world.answers()
    if not world.said:
        world.poll()
    assert world.said == ["Connection refused"]


@pytest.mark.parametrize("host", ["203.0.113.300", "no address"])
def test_a_place_that_is_none(world: World, host: str) -> None:
    world.answers(host=host)
    assert len(world.said) == 1
    assert world.said[0]


def test_one_that_is_given_up_is_not_heard(world: World) -> None:
    world.answers()
    world.calls.give_up(NODE)
    world.answers()
    assert (world.said, world.watched) == ([], {})
