"""Calls of the director to the data ports of nodes that join: values are read there, by nodes that cannot ask again."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from ipaddress import ip_address

from ray.abc.transport import Transport
from ray.messages import objects
from ray.runtime.cluster.members import Member

#: What listens there greets before it hears anything, with less than this.
_GREETING_BYTES = 64


class DataCalls:
    """Of one director."""

    def __init__(self, transport: Transport) -> None:
        """``transport`` watches the connections."""
        self._transport = transport
        #: {node: the call to it}
        self._calls: dict[bytes, _Call] = {}

    def begin(self, member: Member, then: Callable[[str], None]) -> None:
        """Call a node; ``then`` is told why it could not be reached, or nothing."""
        self._calls[member.node] = _Call(then)
        member.send(objects.AskDoor())

    def answered(self, member: Member, message: objects.Door) -> None:
        """It has said where."""
        call = self._calls.get(member.node)
        if call is None or call.connection is not None:
            return
        if not message.port:
            self._end(member.node, "")
            return
        call.place = f"{message.host}:{message.port}"
        try:
            family = socket.AF_INET if ip_address(message.host).version == 4 else socket.AF_INET6
            connection = socket.socket(family, socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            self._end(member.node, str(error))
            return
        connection.setblocking(False)
        failed = connection.connect_ex((message.host, message.port))
        if failed not in (0, errno.EINPROGRESS):
            connection.close()
            self._end(member.node, os.strerror(failed))
            return
        call.connection = connection
        self._transport.watch(connection.fileno(), lambda: self._heard(member.node, connection))

    def _heard(self, node: bytes, connection: socket.socket) -> None:
        try:
            greeting = connection.recv(_GREETING_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(node, error.strerror or str(error))
            return
        self._end(node, "" if greeting else "the connection was closed")

    def place_of(self, node: bytes) -> str:
        """Where a node is being called; empty: it is not."""
        call = self._calls.get(node)
        return "" if call is None else call.place

    def give_up(self, node: bytes) -> None:
        """Whether it is reached does not matter any more."""
        call = self._calls.pop(node, None)
        if call is not None and call.connection is not None:
            self._transport.unwatch(call.connection.fileno())
            call.connection.close()

    def _end(self, node: bytes, why: str) -> None:
        then = self._calls[node].then
        if not why:
            self.give_up(node)
        then(why)
        self.give_up(node)


class _Call:
    __slots__ = ("connection", "place", "then")

    def __init__(self, then: Callable[[str], None]) -> None:
        self.then = then
        self.place = ""
        self.connection: socket.socket | None = None
