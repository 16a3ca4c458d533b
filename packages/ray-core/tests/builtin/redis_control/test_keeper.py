"""The keeper's loop, with a server that is made up."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from ray.builtin.redis_control import keeper as keeper_module
from ray.builtin.redis_control.keeper import Keeper
from ray.builtin.redis_control.restarts import LIMIT, Restarts
from ray.testing import eventually


class MadeUpServer:
    """Its process is a pipe: it ends when that is written to."""

    def __init__(self, *, is_good: bool = True) -> None:
        self.is_good = is_good
        self.started = 0
        self.ended = False
        self.pidfd = self._end = -1

    def start(self) -> None:
        self.pidfd, self._end = os.pipe()
        self.started += 1

    def is_ready(self, timeout_s: float) -> bool:
        return self.is_good

    def die(self) -> None:
        os.write(self._end, b"!")

    def reap(self) -> str:
        os.close(self.pidfd)
        os.close(self._end)
        self.pidfd = -1
        return "signal 9 (SIGKILL)"

    def end(self, grace_s: float) -> None:
        self.ended = True
        if self.pidfd >= 0:
            self.reap()

    def log_tail(self) -> str:
        return "its last words"


class Kept:
    """A keeper on a thread, and its owner's end."""

    def __init__(self, server: MadeUpServer) -> None:
        self.server = server
        self.owner, theirs = socket.socketpair()
        self.owner.settimeout(10)
        self.said: list[str] = []
        keeper = Keeper(server, theirs, self.said.append)  # type: ignore[arg-type]
        self.thread = threading.Thread(target=keeper.keep)
        self.thread.start()
        self._theirs = theirs

    def close(self) -> None:
        self.owner.close()
        self.thread.join(10)
        self._theirs.close()
        assert not self.thread.is_alive()


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept(MadeUpServer())
    yield kept
    kept.close()


def test_it_tells_when_the_server_is_ready_and_ends_it_with_its_owner(kept: Kept) -> None:
    assert kept.owner.recv(1000) == b'{"error":""}\n'
    assert not kept.server.ended
    kept.close()
    assert kept.server.ended
    assert kept.said == []


def test_a_server_that_dies_is_started_again(kept: Kept) -> None:
    kept.owner.recv(1000)
    kept.server.die()
    eventually(lambda: kept.server.started == 2)
    assert kept.said == [
        "ray: the control store's server has ended (signal 9 (SIGKILL)), and is started again with its data"
    ]


def test_one_that_dies_too_often_is_not(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "Restarts", Restarts)
    kept.owner.recv(1000)
    for count in range(1, LIMIT + 2):
        eventually(lambda count=count: kept.server.started == count and kept.server.pidfd >= 0)
        kept.server.die()
    kept.thread.join(10)
    assert not kept.thread.is_alive()
    assert kept.server.started == LIMIT + 1
    assert kept.said[-1] == (
        "ray: the control store's server has ended for the 6th time within a minute (signal 9 (SIGKILL)), and is not "
        "started again: its last words"
    )


def test_a_server_that_does_not_start_is_told() -> None:
    kept = Kept(MadeUpServer(is_good=False))
    assert kept.owner.recv(1000) == b'{"error":"its server does not start: its last words"}\n'
    kept.close()
    assert kept.server.ended


def test_the_owner_may_go_during_a_pause(kept: Kept) -> None:
    kept.owner.recv(1000)
    for count in (1, 2, 3):
        eventually(lambda count=count: kept.server.started == count and kept.server.pidfd >= 0)
        kept.server.die()
    kept.close()
    assert kept.server.ended
