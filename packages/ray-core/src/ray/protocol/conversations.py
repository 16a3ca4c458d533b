"""What two processes of different nodes say to each other, over one connection after another: a pure machine.

A connection may be reset by something in between while both of its ends live; what was in their queues is lost then.
So each message of a conversation has a number. Its sender keeps it until the other end has confirmed it, and says it
again on the next connection if the other end lacks it; a receiver takes what comes twice once. What is kept has a
limit: where a connection is lost together with more than that, the conversation is over.

Messages of one end may overtake each other, as a call that interrupts the sender may send as well. So a receiver knows
up to where it has all of them, and which of the next ones. Such a call may come wherever something is called, here as
well: no sum is read before a call and written behind it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

from ray.abc.transport import Frame

#: The most that is kept for an end that may not have it.
KEPT_BYTES = 16 * 1024 * 1024
#: A receiver confirms at once what it has after so many messages, or so many bytes; else in a while.
CONFIRM_MESSAGES = 256
CONFIRM_BYTES = 1024 * 1024
#: No message begins with this byte: it is none of msgpack.
_MARK = 0xC1
HEAD_BYTES = 8
_MARKED = _MARK << 56


def head_of(number: int) -> bytes:
    """What precedes a message."""
    return (_MARKED | number).to_bytes(HEAD_BYTES, "big")


def number_of(first: Frame) -> int:
    """The number of the message that begins with this frame; 0 if it has none."""
    if len(first) < HEAD_BYTES or first[0] != _MARK:
        return 0
    return int.from_bytes(first[1:HEAD_BYTES], "big")


class Conversation:
    """One end of it. Each end that begins it has an id for it; both do where they begin at the same time."""

    __slots__ = (
        "_ahead",
        "_bytes",
        "_have",
        "_is_told",
        "_news",
        "_news_bytes",
        "forgotten",
        "id",
        "kept",
        "next",
        "other_id",
    )

    def __init__(self, id: bytes) -> None:
        #: Its id at the end that has begun it; at this one, if both have.
        self.id = id
        #: Where both have begun it: its id at the other end, which may not know this one's.
        self.other_id = b""
        #: {number: message}, as far as the other end may not have it; a caller adds to it, see ``number``.
        self.kept: dict[int, Sequence[Frame]] = {}
        #: The highest number of what is not kept any more, though nobody has confirmed it.
        self.forgotten = 0
        #: Gives the next number.
        self.next = itertools.count(1).__next__
        self._bytes = 0
        self._have = 0
        self._ahead: set[int] = set()
        self._is_told = False
        self._news = self._news_bytes = 0

    def has_id(self, id: bytes) -> bool:
        """Whether one of the two ends names it so."""
        return id in (self.id, self.other_id) and id != b""

    @property
    def known_id(self) -> bytes:
        """An id by which the other end knows it, if it has heard of it."""
        return self.other_id or self.id

    # --- what this end says -------------------------------------------------------------------------------------------

    def count(self, message: Sequence[Frame]) -> None:
        """A message was added to ``kept``."""
        nbytes = _nbytes(message)
        self._bytes += nbytes
        while self._bytes > KEPT_BYTES and self.kept:
            for number in self.kept:  # the oldest; no call comes between the look and the step
                if number > self.forgotten:
                    self.forgotten = number
                self._drop(number)
                break

    def _drop(self, number: int) -> None:
        message = self.kept.pop(number, None)
        if message is not None:
            nbytes = _nbytes(message)
            self._bytes -= nbytes

    def confirmed(self, have: int, ahead: Collection[int] = ()) -> None:
        """The other end has all messages up to that number, and those ahead."""
        self._is_told = True
        for number in list(self.kept):
            if number <= have or number in ahead:
                self._drop(number)

    def lacking(self, have: int, ahead: Collection[int]) -> list[int] | None:
        """On a new connection the other end says what it has: which messages it lacks; None: they are not here."""
        if self.forgotten > have:
            return None
        self.confirmed(have, ahead)
        return list(self.kept)

    # --- what the other end says --------------------------------------------------------------------------------------

    def is_new(self, number: int) -> bool:
        """Whether that message has not come yet."""
        return number > self._have and number not in self._ahead

    def take(self, number: int, nbytes: int) -> bool:
        """A message has come, perhaps again; returns whether that is to be confirmed at once."""
        if number > self._have + 1:
            self._ahead.add(number)
        elif number == self._have + 1:
            self._have = number
            while (number := self._have + 1) in self._ahead:
                self._have = number
                self._ahead.discard(number)
        self._news += 1
        self._news_bytes += nbytes
        return self._news >= CONFIRM_MESSAGES or self._news_bytes >= CONFIRM_BYTES

    @property
    def has_news(self) -> bool:
        """Whether anything has come that was not confirmed."""
        return self._news > 0

    def heard(self) -> tuple[int, list[int]]:
        """What has come, as the other end is about to be told."""
        self._news = self._news_bytes = 0
        return self._have, sorted(self._ahead)

    @property
    def is_answered(self) -> bool:
        """Whether the other end has said anything in this conversation, or confirmed anything."""
        return self._is_told or self._have > 0 or bool(self._ahead)

    @property
    def is_known(self) -> bool:
        """Whether it cannot go on unless the other end has heard of it."""
        return self.is_answered or self.forgotten > 0

    def validate(self) -> None:
        """Check the invariants.

        Raises:
            AssertionError: one does not hold.
        """
        assert self._bytes == sum(map(_nbytes, self.kept.values()))
        assert self._bytes <= KEPT_BYTES
        assert all(number > self._have + 1 for number in self._ahead)


def _nbytes(message: Sequence[Frame]) -> int:
    return sum(frame.nbytes if isinstance(frame, memoryview) else len(frame) for frame in message)
