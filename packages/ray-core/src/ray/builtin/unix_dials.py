"""Connections of the Unix transport that wait for a listener whose queue is full: the system tells of no room there.

A try is worth the same by any thread and however often: one that has succeeded is found to be connected. So a call
that interrupts another one, or another thread, may try as well.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ray.clock import monotonic

#: How long before another try.
AGAIN_S = 0.002


class Dialled(Protocol):
    """A connection that is being dialled."""

    fd: int

    @property
    def queued_bytes(self) -> int: ...
    def has_descriptor(self) -> bool: ...
    def stand(self) -> None: ...
    def fail(self, failure: ConnectionError) -> None: ...


class Dial(NamedTuple):
    """What connects, where to, and until when that is tried."""

    sock: socket.socket
    address: str
    path: str
    deadline: float


class UnixDials:
    """Those of one transport; any thread may try."""

    def __init__(self, register: Callable[[int], None]) -> None:
        """``register``: begins to look for messages at a descriptor."""
        self._register = register
        #: {connection: its dial}
        self.waiting: dict[Dialled, Dial] = {}

    def forget(self, connection: Dialled) -> None:
        """It stands, or is closed. No effect if it was not dialled."""
        self.waiting.pop(connection, None)

    def try_again(self) -> bool:
        """Whether any is decided now."""
        is_decided = False
        for connection, dial in list(self.waiting.items()):
            try:
                if not connection.has_descriptor():
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                dial.sock.connect(dial.path)
            except OSError as error:
                if error.errno == errno.EAGAIN and monotonic() < dial.deadline:
                    continue
                if error.errno != errno.EISCONN:
                    connection.fail(failure_of(dial.address, error))
                    self.forget(connection)
                    is_decided = True
                    continue
            self._register(connection.fd)
            connection.stand()
            self.forget(connection)
            is_decided = True
        return is_decided

    def wait_s(self, timeout_s: float | None) -> float | None:
        """Try, and return how long one may wait of ``timeout_s`` until the next try."""
        if self.try_again():
            return 0.0
        return timeout_s if not self.waiting else min(AGAIN_S, AGAIN_S if timeout_s is None else timeout_s)

    def holds_back(self) -> bool:
        """Whether any of them was given what it has not sent."""
        return any(connection.queued_bytes for connection in list(self.waiting))


def failure_of(address: str, error: OSError) -> ConnectionError:
    """Why a connection does not stand.

    The connection keeps it, and a frame that it led to would have the connection: these, and all that the callers hold,
    would stay until a collection.
    """
    failure = ConnectionError(f"cannot connect to {address}: {error}")
    failure.__cause__ = error.with_traceback(None)
    return failure
