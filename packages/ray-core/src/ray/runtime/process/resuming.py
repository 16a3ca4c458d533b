"""New connections for what is said to processes of other nodes, in place of those that were lost. Under the lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from msgspec.structs import replace

from ray.abc.transport import Connection, Transport
from ray.clock import monotonic
from ray.messages import codec, wire
from ray.protocol.conversations import Conversation
from ray.runtime.process.kept_connection import KeptConnection
from ray.runtime.process.own_faults import DROPPED

#: Conversations that are over and remembered.
_MAX_ENDED = 1000
#: Where both ends have dialled, one of them dials again, and after so long the other one as well.
_ALONE_S = 1.0
_FORGOTTEN = codec.encode(wire.Forgotten())


class Far(Protocol):
    """Another process, and the ways to it."""

    process: bytes
    address: str
    talk: KeptConnection | None
    incoming: bool
    second: Connection | None


P = TypeVar("P", bound=Far)


class Resuming(Generic[P]):
    """Of one process."""

    def __init__(self, transport: Transport, process: bytes, hello_to: Callable[[P], wire.Hello]) -> None:
        """Nothing is lost.

        Args:
            transport: of the process.
            process: its id.
            hello_to: makes the first message to a peer.
        """
        self._transport = transport
        self._process = process
        self._hello_to = hello_to
        #: Ids of conversations that are over.
        self._ended: deque[bytes] = deque(maxlen=_MAX_ENDED)

    def ended(self, conversation: Conversation, second: Connection | None) -> None:
        """It is over: nobody goes on with it, by the connection that the other end has dialled either."""
        self._ended.append(conversation.id)
        if conversation.other_id:
            self._ended.append(conversation.other_id)
        _drop(second)

    def break_off(self, peer: P) -> None:
        """A connection to a peer is lost: with the other one, if both ends have dialled, so that each hears of it."""
        talk, second = peer.talk, peer.second
        assert talk is not None
        talk.break_off(monotonic())
        _drop(second)

    # --- the end that dials -------------------------------------------------------------------------------------------

    def is_to_dial(self, peer: P) -> bool:
        """Whether it is this end that dials again, and not the other one."""
        talk = peer.talk
        if peer.incoming or talk is None:
            return False
        # Where both have dialled, the other end may not know of that, or not hear of the loss.
        return peer.second is None or self._process < peer.process or monotonic() - talk.lost_at > _ALONE_S

    def dial(self, peer: P) -> None:
        """Try to go on with what is said to a peer whose connection was lost.

        Raises:
            ConnectionError: that cannot be tried.
        """
        talk = peer.talk
        assert talk is not None
        connection = self._transport.dial(peer.address)
        connection.context = peer
        talk.trying = connection
        hello = replace(self._hello_to(peer), talk=talk.conversation.known_id, again=talk.again())
        connection.send((codec.encode(hello),))

    def answered(self, peer: P, message: wire.GoesOn) -> bool:
        """The other end goes on; False if too much of what was said to it is lost: it is told so."""
        talk = peer.talk
        if talk is None or talk.trying is None:
            return True  # it says that it has heard of a new conversation, or another connection has taken its place
        connection, peer.second = talk.trying, None
        if message.talk:
            talk.conversation.other_id = message.talk
        return self._go_on(peer, connection, message.have, message.ahead, answers=False)

    # --- the other one ------------------------------------------------------------------------------------------------

    def accept(self, peer: P | None, connection: Connection, hello: wire.Hello, lost: Callable[[P], None]) -> bool:
        """Take a new connection for a conversation that this process knows, or has ended; False if it is another one.

        Args:
            peer: the one that has dialled, if it is known.
            connection: the new one.
            hello: its first message.
            lost: told of the peer if too much of what was said to it is lost.
        """
        again = hello.again
        talk = None if peer is None else peer.talk
        if peer is None or talk is None or not talk.conversation.has_id(hello.talk):
            if hello.talk not in self._ended and not (again is not None and again.known):
                return False
            _hang_up(connection, _FORGOTTEN)
            return True
        if again is None:
            if hello.talk != talk.conversation.other_id:
                return False
            if connection.context is None:  # the other end has begun as well, and has said so by an answer before
                self.meet(peer, connection, hello)
            return True
        if talk.trying is not None and self._process < hello.process:  # both have dialled, and it is this end's turn
            _hang_up(connection)
            return True
        if talk.is_open:  # its loss is still to be heard of here
            self.break_off(peer)
        if connection.context is None:
            connection.context, peer.second = peer, None
            if not self._go_on(peer, connection, again.have, again.ahead, answers=True):
                _hang_up(connection)
                lost(peer)
        return True

    def meet(self, peer: P, connection: Connection, hello: wire.Hello) -> None:
        """Both ends begin at the same time: each sends on its own connection only, and so in order."""
        peer.second, connection.context = connection, peer
        if peer.talk is None or not hello.talk:
            return
        conversation = peer.talk.conversation
        conversation.other_id = hello.talk
        if hello.again is not None:  # its first connection was lost before its hello had come
            connection.send((codec.encode(wire.GoesOn(*conversation.heard(), talk=conversation.id)),))

    @staticmethod
    def is_given_up(peer: P) -> bool:
        """Whether the other end of what is said to a peer has given that up, as it connects and begins anew.

        Else it has not answered yet: both ends have begun at the same time.
        """
        return peer.talk is not None and peer.talk.conversation.is_answered

    def _go_on(self, peer: P, connection: Connection, have: int, ahead: Sequence[int], *, answers: bool) -> bool:
        assert peer.talk is not None
        if peer.talk.go_on(connection, have, ahead, answers=answers):
            return True
        connection.send((_FORGOTTEN,))
        return False


def _drop(second: Connection | None) -> None:
    if second is not None:
        second.context = DROPPED
        second.abort()


def _hang_up(connection: Connection, *frames: bytes) -> None:
    connection.context = DROPPED
    if frames:
        connection.send(frames)
    connection.abort()
