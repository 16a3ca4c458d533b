"""The other node managers of a cluster, as one of them knows them: a connection to each, dialled by this one.

Over it this node manager asks, as the home of its processes. What others ask of it arrives over connections that they
have dialled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ray.abc.transport import Connection, Frame, Transport
from ray.ids import NODE_NUMBER_BYTES
from ray.messages import codec, wire
from ray.messages.cluster import NodeRecord
from ray.protocol.membership import BEAT_S
from ray.runtime.process.timers import Timers


class Member:
    """Another node, and the connection to its node manager."""

    __slots__ = ("connection", "node", "record", "stands")

    def __init__(self, record: NodeRecord, connection: Connection) -> None:
        self.record = record
        #: Its number, as ids begin with it.
        self.node = record.number.to_bytes(NODE_NUMBER_BYTES, "big")
        self.connection = connection
        #: Its node manager has answered.
        self.stands = False

    def send(self, message: Any) -> None:
        """Queue a message; dropped if the connection is lost."""
        self.connection.send((codec.encode(message),))

    @property
    def title(self) -> str:
        """How messages name it."""
        record = self.record
        return f"node {record.name or record.number} ({record.address})"


class Members:
    """Keeps a connection to each node that is said to be there."""

    def __init__(
        self,
        transport: Transport,
        hello: Callable[[], wire.Hello],
        timers: Timers,
        on_up: Callable[[Member], None],
        on_lost: Callable[[Member], None],
        receive: Callable[[Member, Any, Sequence[Frame]], None],
    ) -> None:
        """There are none yet.

        Args:
            transport: of this node manager.
            hello: makes what it says first.
            timers: of this node manager.
            on_up: told of one that has answered.
            on_lost: told of one that was connected, or was to be, and is not any more.
            receive: takes what one says, and its frames.
        """
        self._transport = transport
        self._hello = hello
        self._timers = timers
        self._on_up = on_up
        self._on_lost = on_lost
        self._receive = receive
        #: {node number: member}
        self.members: dict[bytes, Member] = {}
        #: {node number: what is known of a node that is there}
        self._wanted: dict[bytes, NodeRecord] = {}

    def want(self, records: Iterable[NodeRecord]) -> None:
        """These nodes are there, and no others: dial those that are new, and hang up on the rest."""
        wanted = {record.number.to_bytes(NODE_NUMBER_BYTES, "big"): record for record in records}
        self._wanted = wanted
        for node in self.members.keys() - wanted.keys():
            self.drop(node)
        for node, record in wanted.items():
            if node not in self.members:
                self.dial(record)

    def dial(self, record: NodeRecord) -> Member:
        """Begin to connect to a node; ``on_up`` or ``on_lost`` follows."""
        member = Member(record, self._transport.dial(record.address))
        self.members[member.node] = member
        member.connection.context = member
        member.send(self._hello())
        return member

    def drop(self, node: bytes) -> None:
        """Hang up; ``on_lost`` follows."""
        member = self.members.get(node)
        if member is not None:
            member.connection.abort()
            self.lost(member)

    def lost(self, member: Member) -> None:
        """The connection has ended. While the node is said to be there, it is tried again."""
        if self.members.get(member.node) is not member:
            return
        del self.members[member.node]
        self._on_lost(member)
        self._timers.after(BEAT_S, lambda: self._again(member.node))

    def _again(self, node: bytes) -> None:
        record = self._wanted.get(node)
        if record is not None and node not in self.members:
            self.dial(record)

    def receive(self, member: Member, frames: Sequence[Frame]) -> None:
        """Something has come from one.

        Raises:
            RemoteProtocolError: it is no message.
        """
        message = codec.decode(frames)
        if type(message) is wire.Welcome:
            if not member.stands:
                member.stands = True
                self._on_up(member)
            return
        self._receive(member, message, frames)

    def send(self, node: bytes, message: Any) -> bool:
        """Queue a message for a node; False if there is no connection to it."""
        member = self.members.get(node)
        if member is None:
            return False
        member.send(message)
        return True
