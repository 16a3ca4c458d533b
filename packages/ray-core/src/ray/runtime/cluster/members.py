"""The other node managers of a cluster, as one of them knows them: a connection to each, dialled by this one.

Over it this node manager asks, as the home of its processes. What others ask of it arrives over connections that they
have dialled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ray.abc.transport import Connection, Transport
from ray.clock import monotonic
from ray.ids import node_bytes
from ray.messages import codec, wire
from ray.messages.cluster import NodeRecord
from ray.protocol.membership import BEAT_S
from ray.runtime.process.timers import Timers

#: A node whose connection has ended is called again after so long: if its node manager has died, that call is refused.
_AT_ONCE_S = 0.02


class Member:
    """Another node, and the connection to its node manager."""

    __slots__ = ("connection", "dialled", "is_joining", "node", "record", "stands")

    def __init__(self, record: NodeRecord, connection: Connection) -> None:
        self.record = record
        #: Its number, as ids begin with it.
        self.node = node_bytes(record.number)
        self.connection = connection
        #: Its node manager has answered.
        self.stands = False
        #: When it was called.
        self.dialled = monotonic()
        #: The director calls it back, and has not said to the others that it is there.
        self.is_joining = False

    def send(self, message: Any) -> None:
        """Queue a message; dropped if the connection is lost."""
        self.connection.send((codec.encode(message),))

    @property
    def name(self) -> str:
        """Its name, or its number where it has none."""
        return self.record.name or f"{self.record.number:08x}"

    @property
    def title(self) -> str:
        """How messages name it."""
        return f"{self.name} ({self.record.address})"


class Members:
    """Keeps a connection to each node that is said to be there."""

    def __init__(self, transport: Transport, hello: Callable[[], wire.Hello], timers: Timers) -> None:
        """There are none yet.

        Args:
            transport: of this node manager.
            hello: makes what it says first.
            timers: of this node manager.
        """
        self._transport = transport
        self._hello = hello
        self._timers = timers
        #: {node number: member}
        self.members: dict[bytes, Member] = {}
        #: {node number: what is known of a node that is there}
        self._wanted: dict[bytes, NodeRecord] = {}

    def want(self, records: Iterable[NodeRecord]) -> list[Member]:
        """These nodes are there, and no others: dial those that are new, and hang up on the rest; returns the rest."""
        self._wanted = {node_bytes(record.number): record for record in records}
        rest = [member for node, member in self.members.items() if node not in self._wanted and not member.is_joining]
        for member in rest:
            member.connection.abort()
            del self.members[member.node]
        for node in self._wanted:
            if node not in self.members:
                self._again(node)
        return rest

    def dial(self, record: NodeRecord) -> Member:
        """Begin to connect to a node; it answers with ``Welcome``, or the connection is lost."""
        member = Member(record, self._transport.dial(record.address))
        self.members[member.node] = member
        member.connection.context = member
        member.send(self._hello())
        return member

    def place_of(self, record: NodeRecord) -> str:
        """Where other nodes dial a node, as users know it: ``host:port``, or the path of a socket."""
        contact = self._transport.contacts(record.address)[-1]
        return contact.partition("://")[2] or contact

    def lost(self, member: Member) -> bool:
        """A connection has ended; False if it was hung up on. While the node is said to be there, it is tried again."""
        if self.members.get(member.node) is not member:
            return False
        del self.members[member.node]
        self._timers.after(_AT_ONCE_S if member.stands else BEAT_S, lambda: self._again(member.node))
        return True

    def _again(self, node: bytes) -> None:
        record = self._wanted.get(node)
        if record is not None and node not in self.members:
            try:
                self.dial(record)
            except OSError:  # there is no descriptor for one more
                self._timers.after(BEAT_S, lambda: self._again(node))

    def send(self, node: bytes, message: Any) -> bool:
        """Queue a message for a node; False if there is no connection to it."""
        member = self.members.get(node)
        if member is None:
            return False
        member.send(message)
        return True
