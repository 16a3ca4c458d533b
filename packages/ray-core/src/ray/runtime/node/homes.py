"""Other node managers that have connected to this one: what is said to them goes on when a connection is lost.

A home that is one of the cluster ends by the verdict of its director, and not with its connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ray.abc.transport import Connection, Frame
from ray.clock import monotonic
from ray.messages import codec, wire
from ray.protocol.conversations import Conversation
from ray.runtime.node.client import Client
from ray.runtime.process.kept_connection import KeptConnection, opened
from ray.runtime.process.own_faults import DROPPED
from ray.runtime.process.timers import Timers

#: Conversations that are over and remembered.
_MAX_ENDED = 1000


class Homes:
    """Their connections."""

    def __init__(self, timers: Timers) -> None:
        """``timers``: of this node manager."""
        self._timers = timers
        self._ended: deque[bytes] = deque(maxlen=_MAX_ENDED)

    def is_over(self, known: Client | None, hello: wire.Hello) -> bool:
        """Whether one would go on with a conversation that this end does not have any more."""
        if known is not None and known.talk is not None and self.knows(known, hello):
            return known.talk.is_over
        return hello.talk in self._ended or (hello.again is not None and hello.again.known)

    def refuse(self, connection: Connection) -> None:
        """Have it begin anew."""
        connection.context = DROPPED
        connection.send((codec.encode(wire.Forgotten()),))
        connection.abort()

    def knows(self, client: Client, hello: wire.Hello) -> bool:
        """Whether one goes on with what was said before."""
        return client.talk is not None and client.talk.conversation.id == hello.talk != b""

    def begin(self, client: Client, connection: Connection, hello: wire.Hello, welcome: wire.Welcome) -> None:
        """A conversation begins; another one that there was is over."""
        self.end(client)
        client.connection = client.talk = KeptConnection(Conversation(hello.talk), connection)
        connection.context = client
        client.talk.raw(welcome)
        if hello.again is not None:
            client.talk.raw(wire.GoesOn(0))

    def go_on(self, client: Client, connection: Connection, hello: wire.Hello, welcome: wire.Welcome) -> bool:
        """It is there again; False if it is to begin anew, as too much of what was said is lost."""
        talk, again = client.talk, hello.again
        assert talk is not None
        if talk.is_open:  # its loss is still to be heard of
            talk.break_off(monotonic())
        have, ahead = (0, []) if again is None else (again.have, again.ahead)
        connection.context = client
        connection.send((codec.encode(welcome),))
        if talk.go_on(connection, have, ahead, answers=True):
            return True
        self.end(client)
        return False

    def opened(self, client: Client, frames: Sequence[Frame]) -> Sequence[Frame]:
        """What one says, without its number; empty if it was said before."""
        number, said = opened(frames)
        if not number or client.talk is None:
            return frames
        return said if client.talk.took(number, frames, self._timers.after) else ()

    def confirmed(self, client: Client, message: wire.Got, frames: Sequence[Frame]) -> None:
        """One has heard so much."""
        if client.talk is not None:
            client.talk.conversation.confirmed(message.have, message.ahead)

    def forgotten(self, client: Client, message: wire.Forgotten, frames: Sequence[Frame]) -> None:
        """One is about to begin anew."""
        self.end(client)

    def broken(self, client: Client, connection: Connection) -> bool:
        """A connection is lost; False if another one has taken its place."""
        talk = client.talk
        if talk is None:
            return True
        if connection is not talk.inner or not (talk.is_open or talk.is_over):
            return False
        talk.break_off(monotonic())
        return True

    def end(self, client: Client) -> None:
        """What was said to one is over."""
        if client.talk is not None:
            self._ended.append(client.talk.conversation.id)
            client.talk.abort()
