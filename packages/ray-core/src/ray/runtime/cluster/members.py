"""The other node managers of a cluster, as one of them knows them: a connection to each, dialled by this one.

Over it this node manager asks, as the home of its processes. What others ask of it arrives over connections that they
have dialled. If a connection is lost, another one is dialled, and what is said goes on there: a node ends by the
verdict of the director, not with a connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ray.abc.transport import Connection, Frame, Transport
from ray.builtin.unreachable import UnreachableConnection
from ray.clock import monotonic
from ray.ids import node_bytes
from ray.messages import codec, wire
from ray.messages.cluster import NodeRecord
from ray.protocol.membership import BEAT_S
from ray.runtime.process.kept_connection import KeptConnection, new_conversation, opened
from ray.runtime.process.timers import Timers

#: A node whose connection has ended is called again after so long: if its node manager has died, that call is refused.
_AT_ONCE_S = 0.02


class Member:
    """Another node, and the connection to its node manager."""

    __slots__ = ("connection", "dialled", "is_joining", "node", "record", "stands", "talk")

    def __init__(self, record: NodeRecord, connection: Connection, talk: KeptConnection | None = None) -> None:
        """``talk``: goes on by this connection, once the node manager has answered; a new one if there is none."""
        self.record = record
        #: Its number, as ids begin with it.
        self.node = node_bytes(record.number)
        self.connection = connection
        #: What is said goes on by it when the connection is lost.
        self.talk = talk or KeptConnection(new_conversation(), connection)
        #: Its node manager has answered.
        self.stands = False
        #: When it was called.
        self.dialled = monotonic()
        #: The director calls it back, and has not said to the others that it is there.
        self.is_joining = False

    def send(self, message: Any) -> None:
        """Queue a message; if the connection is lost it goes by the next one, unless the node is dead."""
        self.talk.send((codec.encode(message),))

    def say(self, message: wire.Struct) -> None:
        """Queue a message that is of no use later: it is lost with the connection."""
        self.talk.now(message)

    @property
    def name(self) -> str:
        """Its name, or its number where it has none."""
        return self.record.name or self.record.node_id

    @property
    def title(self) -> str:
        """How messages name it."""
        return self.record.title


class Members:
    """Keeps a connection to each node that is said to be there."""

    def __init__(
        self, transport: Transport, hello: Callable[[bytes, wire.Again | None], wire.Hello], timers: Timers
    ) -> None:
        """There are none yet.

        Args:
            transport: of this node manager.
            hello: makes what it says first, for a conversation of that id, which begins or goes on.
            timers: of this node manager.
        """
        self._transport = transport
        self._hello = hello
        self._timers = timers
        #: {node number: member}
        self.members: dict[bytes, Member] = {}
        #: {node number: the newest connection, which may be lost}
        self._newest: dict[bytes, Member] = {}
        #: {node number: what is known of a node that is there}
        self._wanted: dict[bytes, NodeRecord] = {}

    def want(self, records: Iterable[NodeRecord]) -> list[Member]:
        """These nodes are there, and no others: dial those that are new, and hang up on the rest; returns the rest."""
        self._wanted = {node_bytes(record.number): record for record in records}
        rest = [member for node, member in self._newest.items() if node not in self._wanted and not member.is_joining]
        for member in rest:
            member.talk.abort()
            self.members.pop(member.node, None)
            del self._newest[member.node]
        for node in self._wanted:
            if node not in self.members:
                self._again(node)
        return rest

    def dial(self, record: NodeRecord) -> Member:
        """Begin to connect to a node; it answers with ``Welcome``, or the connection is lost."""
        connection, before = self._transport.dial(record.address), self._newest.get(node_bytes(record.number))
        if before is not None and before.talk.is_over:  # what is said begins anew
            before = None
        if before is None:
            member = Member(record, connection)
        else:
            member = Member(record, connection, before.talk)
            member.talk.trying = connection
        self.members[member.node] = self._newest[member.node] = member
        connection.context = member
        talk = member.talk
        hello = self._hello(talk.conversation.id, None if before is None else talk.again())
        connection.send((codec.encode(hello),))
        return member

    def opened(self, member: Member, frames: Sequence[Frame]) -> Sequence[Frame]:
        """What a node manager says, without its number; empty if it was said before."""
        number, said = opened(frames)
        return said if not number or member.talk.took(number, frames, self._timers.after) else ()

    def handlers(self, anew: Callable[[Member], None]) -> dict[type, Callable[[Member, Any], None]]:
        """What other node managers say of what is said; ``anew``: told of one to which that begins anew."""

        def goes_on(member: Member, message: wire.GoesOn) -> None:
            if not self.resumed(member, message):
                forgotten(member, message)

        def forgotten(member: Member, message: object) -> None:
            member.connection.send((codec.encode(wire.Forgotten()),))
            member.talk.abort()
            anew(member)

        def got(member: Member, message: wire.Got) -> None:
            member.talk.conversation.confirmed(message.have, message.ahead)

        return {wire.GoesOn: goes_on, wire.Forgotten: forgotten, wire.Got: got}

    def resumed(self, member: Member, message: wire.GoesOn) -> bool:
        """A node manager goes on with what was said; False if too much of that is lost."""
        if member.talk.trying is not member.connection:
            return True
        return member.talk.go_on(member.connection, message.have, message.ahead, answers=False)

    def place_of(self, record: NodeRecord) -> str:
        """Where other nodes dial a node, as users know it: ``host:port``, or the path of a socket."""
        contact = self._transport.contacts(record.address)[-1]
        return contact.partition("://")[2] or contact

    def lost(self, member: Member) -> bool:
        """A connection has ended; False if it was hung up on. While the node is said to be there, it is tried again."""
        if self.members.get(member.node) is not member:
            return False
        del self.members[member.node]
        if not member.talk.is_over:
            member.talk.break_off(monotonic())
        if member.node not in self._wanted:  # nobody will call it again, unless it is the director
            self._newest.pop(member.node, None)
        self._timers.after(_AT_ONCE_S if member.stands else BEAT_S, lambda: self._again(member.node))
        return True

    def _again(self, node: bytes) -> None:
        record = self._wanted.get(node)
        if record is not None and node not in self.members:
            try:
                self.dial(record)
            except OSError as error:  # there is no descriptor for one more
                if node not in self._newest:  # what is said to it waits until there is one
                    self._newest[node] = Member(record, UnreachableConnection(ConnectionError(str(error))))
                    self._newest[node].talk.break_off(monotonic())
                self._timers.after(BEAT_S, lambda: self._again(node))

    def send(self, node: bytes, message: Any) -> bool:
        """Queue a message for a node; False if there is no way to it."""
        member = self._newest.get(node)
        if member is None or member.talk.is_over:
            return False
        member.send(message)
        return True

    def say(self, node: bytes, message: wire.Struct) -> None:
        """Queue a message for a node that is of no use later: it is lost with the connection."""
        member = self._newest.get(node)
        if member is not None:
            member.say(message)

    def is_there(self, node: bytes) -> bool:
        """Whether a node is said to be there; if there is no way to it now, there is going to be one."""
        return node in self._wanted

    def tell_all(self, message: Any) -> None:
        """Queue a message for each of them."""
        for member in self._newest.values():
            member.send(message)
