"""Keeps a server of our own running: starts it, again when it dies, and ends it when its own owner is gone."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

import msgspec

from ray.builtin.redis_control.doorman import LOOK_S, Doorman
from ray.builtin.redis_control.restarts import LIMIT, Restarts
from ray.builtin.redis_control.server import RedisServer
from ray.clock import monotonic

#: A server that has this much data to load takes that long.
READY_S = 30.0


class Told(msgspec.Struct, frozen=True):
    """What a keeper says to its owner: an empty text, or why there is no server."""

    error: str = ""


class Keeper:
    """The loop of a process or thread that does nothing else."""

    def __init__(
        self,
        server: RedisServer,
        lifeline: socket.socket,
        say: Callable[[str], None],
        *,
        end_s: float = 0.0,
        doorman: Doorman | None = None,
    ) -> None:
        """Begin nothing yet.

        Args:
            server: not started.
            lifeline: to the owner, who is told on it when the server is ready, and whose end of it ends with the owner.
            say: shows a line to people.
            end_s: what the server is given to write out what it has, when it is ended.
            doorman: looks after a server that others reach.
        """
        self._doorman = doorman
        self._server, self._lifeline, self._say, self._end_s = server, lifeline, say, end_s
        self._restarts = Restarts()

    def keep(self) -> None:
        """Return when the owner is gone, or the server has died too often."""
        try:
            self._server.start()
            if not self._server.is_ready(READY_S):
                self._tell(f"its server does not start: {self._server.log_tail()}")
                return
            self._tell("")
            while self._await_end():
                if not self._start_again():
                    return
        finally:
            self._server.end(self._end_s)

    def _tell(self, error: str) -> None:
        self._lifeline.sendall(msgspec.json.encode(Told(error)) + b"\n")

    def _await_end(self, pause_s: float | None = None) -> bool:
        """Wait for the end of the server, or for a time; False: the owner is gone."""
        poll = select.poll()
        poll.register(self._lifeline, select.POLLIN)
        if pause_s is None:
            poll.register(self._server.pidfd, select.POLLIN)
        if pause_s is not None or self._doorman is None:
            ready = poll.poll(None if pause_s is None else pause_s * 1000)
        else:
            while not (ready := poll.poll(LOOK_S * 1000)):
                self._doorman.look()
        return self._lifeline.fileno() not in [fd for fd, _ in ready]

    def _start_again(self) -> bool:
        """Whether the server is there again, or may come."""
        how = self._server.reap()
        pause_s = self._restarts.died(monotonic())
        if pause_s is None:
            self._say(
                f"ray: the control store's server has ended for the {LIMIT + 1}th time within a minute ({how}), and is "
                f"not started again: {self._server.log_tail()}"
            )
            return False
        self._say(f"ray: the control store's server has ended ({how}), and is started again with its data")
        if pause_s and not self._await_end(pause_s):
            return False
        self._server.start()
        return True
