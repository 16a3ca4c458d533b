"""Connections that are being dialled over one router socket. No method blocks.

ZeroMQ tells of attempts by address only. So there is one at a time to each address, and others to the same one wait for
it; and an attempt that was given up stays on record until ZeroMQ has told how it has ended, or its time is over.

See ``ray_transport_zmq.hub`` for which thread may call this, and when: what interrupts a step here may do all of
it, once more.
"""

from __future__ import annotations

import itertools
from typing import Protocol

from ray.clock import monotonic
from ray_transport_zmq.connection import ZmqConnection

_numbers = itertools.count(1)


class DiallingHub(Protocol):
    """The router socket."""

    def attempt(self, connection: ZmqConnection) -> None: ...
    def stand(self, connection: ZmqConnection) -> None: ...
    def fail(self, connection: ZmqConnection, failure: ConnectionError) -> None: ...


class Dials:
    """Each of these is begun, in its turn, and concluded."""

    def __init__(self, hub: DiallingHub, links: dict[bytes, ZmqConnection], pending: dict[str, ZmqConnection]) -> None:
        """Make one.

        Args:
            hub: the router socket.
            links: {routing id: connection} of that.
            pending: {address: the connection being made to it}, for the monitor.
        """
        self._hub = hub
        self._links = links
        self._pending = pending
        #: Those that are not decided, oldest first.
        self.open: dict[ZmqConnection, None] = {}
        #: {address: connections that were begun}; ZeroMQ can end only all connections to one address together.
        self.users: dict[str, int] = {}

    def begin(self, connection: ZmqConnection, address: str, timeout_s: float, target: str = "") -> None:
        """Dial; an empty address of ``target`` is told later, and the time begins then."""
        # Ids are never used twice: ZeroMQ ends the process if it still knows one.
        connection.id = b"out-%d" % next(_numbers)
        connection.address, connection.target = address, target or address
        connection.deadline = monotonic() + timeout_s if address else float("inf")
        connection.timeout_s = timeout_s
        connection.dialling = True
        self._links[connection.id] = connection
        self.open[connection] = None
        self.go_on()

    def found(self, connection: ZmqConnection, address: str, reason: str) -> None:
        """Dial there; or, if the address is empty, nowhere, for this reason."""
        connection.reason = "" if address else reason
        if address:
            connection.target = f"{connection.target} at {address}"
        connection.address = address
        connection.deadline = monotonic() + connection.timeout_s
        self.go_on()

    def go_on(self) -> bool:
        """Begin what is to begin, and conclude what is decided; whether anything was."""
        has_concluded = False
        pending, users = self._pending, self.users
        for connection in list(self.open):
            address, is_over = connection.address, monotonic() >= connection.deadline
            if address and not (connection.counted or connection.closed or is_over or address in pending):
                pending[address] = connection
                users[address] = users[address] + 1 if address in users else 1
                connection.counted = True
            if connection.counted:
                self._hub.attempt(connection)
            if is_over or connection.is_decided or not (connection.counted or not connection.closed):
                self._conclude(connection)
                has_concluded = True
        return has_concluded

    def _conclude(self, connection: ZmqConnection) -> None:
        reason = connection.reason or f"no answer within {connection.timeout_s:g} s"
        failure = ConnectionError(f"cannot connect to {connection.target}: {reason}")
        address, pending = connection.address, self._pending
        if address in pending and pending[address] is connection:
            del pending[address]
        if connection.ready:
            self._hub.stand(connection)
        else:
            self._hub.fail(connection, failure)
        self.open.pop(connection, None)

    def wait_s(self, timeout_s: float | None) -> float | None:
        """How long one may wait of ``timeout_s`` until the time of one is over."""
        left_s = min((connection.deadline for connection in list(self.open)), default=float("inf")) - monotonic()
        if timeout_s is not None and timeout_s <= left_s:
            return timeout_s
        return None if left_s == float("inf") else max(0.0, left_s)

    def hold_back(self) -> bool:
        """Whether any of them was given what it has not sent."""
        return any(connection.queue for connection in list(self.open))

    def let_go(self, connection: ZmqConnection) -> bool:
        """A connection that was dialled has ended; whether it was the last one to its address."""
        address, users = connection.address, self.users
        if not connection.counted:
            return False
        connection.counted = False
        users[address] -= 1
        if users[address]:
            return False
        del users[address]
        return True

    def close(self) -> None:
        """Nothing is dialled any more."""
        for connection in list(self.open):
            connection.closed = True
            connection.dialling = False
        self.open.clear()
