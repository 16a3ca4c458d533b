"""A connection to a process of another node: what is sent outlives the loss of what it is sent by."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from ray.abc.transport import Connection, Frame
from ray.messages import codec, wire
from ray.protocol.conversations import HEAD_BYTES, Conversation, head_of, number_of
from ray.runtime.process.own_faults import DROPPED

#: A conversation that does not go on in this time after its connection was lost is over.
RECONNECT_S = 30.0
#: What is said has been confirmed after so long.
CONFIRM_S = 0.1
_ID_BYTES = 8
_FORGOTTEN = codec.encode(wire.Forgotten())


def new_conversation() -> Conversation:
    """One that this process begins."""
    return Conversation(os.urandom(_ID_BYTES))


class KeptConnection(Connection):
    """Over one real connection after another. Its events are those of the real ones, whose context the caller sets.

    Messages that carry it, and say who is there, have no number: ``raw`` sends them.
    """

    def __init__(self, conversation: Conversation, inner: Connection) -> None:
        """``inner`` is dialled, or has brought the first message of the other end."""
        self.conversation = conversation
        #: The real one that is used, or was lost.
        self.inner = inner
        #: The one by which this end tries to go on.
        self.trying: Connection | None = None
        #: What is said goes out by ``inner``; else it waits.
        self.is_open = True
        #: It was lost at least once.
        self.was_lost = False
        #: Nothing goes on any more.
        self.is_over = False
        #: Since when it is lost, and which loss that is.
        self.lost_at = 0.0
        self.losses = 0
        #: What has come is going to be confirmed.
        self.confirms = False

    # --- see ``Connection`` -------------------------------------------------------------------------------------------

    def send(self, frames: Sequence[Frame]) -> None:
        first: Any = frames[0]
        if first is None or self.is_over:
            return
        conversation = self.conversation
        number = conversation.next()
        head, kept = head_of(number), conversation.kept
        message: Sequence[Frame] = (head + first, *frames[1:])
        nothing = (head,)
        if frames.__class__ is list:  # see ``Connection.send``; from here on no call comes between, until it is kept
            if frames[0] is None:  # a call that has interrupted this one has sent it: its number must not be missing
                message = nothing
            frames[0] = None
        kept[number] = message
        conversation.count(message)
        if self.is_open:
            self.inner.send(message)

    @property
    def context(self) -> Any:
        """That of the real one."""
        return self.inner.context

    @context.setter
    def context(self, context: Any) -> None:
        self.inner.context = context

    @property
    def closed(self) -> bool:  # type: ignore[override]
        """Whether nothing goes on any more; what has stood and was lost goes on, also before that is heard of here."""
        return self.is_over or self.failure is not None

    @property
    def dialling(self) -> bool:  # type: ignore[override]
        """Whether it is decided whether the first of the real ones stands."""
        return not self.was_lost and self.inner.dialling

    @property
    def failure(self) -> ConnectionError | None:  # type: ignore[override]
        """Why the first of the real ones never stood."""
        return None if self.was_lost else self.inner.failure

    @property
    def queued_bytes(self) -> int:
        return self.inner.queued_bytes

    def close(self) -> None:
        self.is_over = True
        self.inner.close()
        self._abort(self.trying)

    def abort(self) -> None:
        self.is_over = True
        self.inner.abort()
        self._abort(self.trying)

    # --- the real ones ------------------------------------------------------------------------------------------------

    def raw(self, message: wire.Struct) -> None:
        """Send what has no number."""
        self.inner.send((codec.encode(message),))

    def now(self, message: wire.Struct) -> None:
        """Send what is of no use later. It has no number: nobody confirms it, and it is lost with the real one."""
        if self.is_open and not self.is_over:
            self.raw(message)

    def forget(self) -> None:
        """This end does not go on; the other one is told, if it can be."""
        self.inner.send((_FORGOTTEN,))
        self.abort()

    @staticmethod
    def _abort(connection: Connection | None) -> None:
        if connection is not None:
            connection.context = DROPPED
            connection.abort()

    def break_off(self, now: float) -> None:
        """The real one is lost, or of no use any more."""
        self.is_open = False
        self.was_lost = True
        self.lost_at = now
        self.losses += 1
        self._abort(self.inner)
        trying, self.trying = self.trying, None
        self._abort(trying)

    def again(self) -> wire.Again:
        """What to say when this end dials anew."""
        conversation = self.conversation
        is_known = conversation.is_known
        have, ahead = conversation.heard()
        return wire.Again(have, ahead, is_known)

    def go_on(self, connection: Connection, have: int, ahead: Sequence[int], *, answers: bool) -> bool:
        """Both ends are there again; False if too much is lost.

        Args:
            connection: the new one.
            have: the other end has all messages up to this number,
            ahead: and these.
            answers: the other end has dialled, and waits to hear what this one has.
        """
        lacking = self.conversation.lacking(have, ahead)
        if lacking is None:
            return False
        if answers:
            connection.send((codec.encode(wire.GoesOn(*self.conversation.heard())),))
        self.trying = None
        self.inner = connection
        kept = self.conversation.kept
        repeated = list(kept.items())
        for _, message in repeated:
            connection.send(message)
        self.is_open = True
        last = max((number for number, _ in repeated), default=0)
        for number, message in list(kept.items()):  # what was said meanwhile
            if number > last:
                connection.send(message)
        return True

    def took(self, number: int, frames: Sequence[Frame], after: Callable[[float, Callable[[], None]], object]) -> bool:
        """A message of that number has come; returns whether it is new. ``after``: see ``Timers``."""
        conversation = self.conversation
        is_new = conversation.is_new(number)
        if conversation.take(number, sum(map(len, frames))):
            self.confirm()
        elif not self.confirms:
            self.confirms = True
            after(CONFIRM_S, self.confirm)
        return is_new

    def confirm(self) -> None:
        """Say what has come."""
        self.confirms = False
        if self.conversation.has_news and self.is_open:
            self.raw(wire.Got(*self.conversation.heard()))


def opened(frames: Sequence[Frame]) -> tuple[int, Sequence[Frame]]:
    """The number of a message, and the message; empty where it only fills a number."""
    number = number_of(frames[0])
    if not number:
        return 0, frames
    body = frames[0][HEAD_BYTES:]
    return number, (body, *frames[1:]) if len(body) else ()
