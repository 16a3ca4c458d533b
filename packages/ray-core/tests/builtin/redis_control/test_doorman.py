"""Who comes to a server over the network has to say the password soon."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from ray.builtin.redis_control import doorman
from ray.builtin.redis_control.access import Access, load
from ray.builtin.redis_control.link import Link
from ray.builtin.redis_control.options import RedisOptions
from ray.builtin.redis_control.own import OwnRedis


@pytest.fixture
def own(short_dir: Path) -> Iterator[OwnRedis]:
    made = OwnRedis(str(short_dir), RedisOptions(host="127.0.0.1"))
    yield made
    made.close()


def silent(access: Access) -> socket.socket:
    return socket.create_connection(access.hosts[0], 10)


def test_those_that_say_nothing_have_to_leave(own: OwnRedis) -> None:
    """And those that have the password stay, however little they say."""
    assert own.remote is not None
    friends = [Link(access, "test") for access in (own.remote, load(own.address))]  # none connects again by itself
    socks = [(silent(own.remote), time.monotonic()) for _ in range(20)]
    try:
        for sock, since in socks:
            assert select.select([sock], [], [], 30)[0]
            assert sock.recv(1) == b""
            assert time.monotonic() - since >= doorman.ENTER_S - 1
        assert [friend.call(("PING",)) for friend in friends] == [[b"PONG"]] * 2
    finally:
        for sock, _ in socks:
            sock.close()
        for friend in friends:
            friend.close()


def test_the_doorman_may_do_nothing_else(own: OwnRedis) -> None:
    """Nobody but the process that keeps the server has its password."""
    assert own.remote is not None
    for password in ("", own.remote.password):
        other = redis.Redis(unix_socket_path=load(own.address).path, username="doorman", password=password)
        with other, pytest.raises(redis.exceptions.AuthenticationError):
            other.ping()
