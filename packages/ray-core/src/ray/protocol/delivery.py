"""Delivery over a channel that loses, doubles, delays and reorders: exactly once and in order. Pure.

Each end of the channel has a ``Delivery``. Messages are numbered; the receiver says up to where it has all of them and
which of the next ones it has. What is not confirmed is sent again: as soon as something sent clearly later is confirmed
(an idea of RFC 8985), else after a time that grows with each try. The shell around it has the clock and the channel: it
transmits what ``packets`` returns, hands what arrives to ``receive``, and comes back when ``due`` says so.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Generic, TypeVar

import msgspec

from ray.exceptions import RemoteProtocolError

T = TypeVar("T")

#: Messages under way at most, from the first that is not confirmed; a receiver keeps fewer that came before their turn.
WINDOW = 512
_HEADER = struct.Struct("<QQ")
_MAX_AHEAD_BYTES = WINDOW // 8
_NEVER = float("inf")
_AT_ONCE = -_NEVER


class Header(msgspec.Struct, frozen=True):
    """What precedes a message on the channel, or travels alone to confirm."""

    number: int
    """Of the message, from 1; 0: there is none."""
    have: int
    """The sender has received all messages up to this number,"""
    ahead: int
    """and of those after the next one the ones whose bit is set."""

    def encode(self) -> bytes:
        """16 bytes, and one for each eight messages that came before their turn."""
        ahead = self.ahead.to_bytes((self.ahead.bit_length() + 7) // 8, "little")
        return _HEADER.pack(self.number, self.have) + ahead

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> Header:
        """The reverse.

        Raises:
            RemoteProtocolError: not a header.
        """
        if not _HEADER.size <= len(data) <= _HEADER.size + _MAX_AHEAD_BYTES:
            raise RemoteProtocolError(f"header of {len(data)} bytes")
        number, have = _HEADER.unpack_from(data)
        return cls(number, have, int.from_bytes(data[_HEADER.size :], "little"))


class _Sent(msgspec.Struct, Generic[T]):
    """A message that is not confirmed."""

    message: T
    at: float
    due: float
    interval_s: float


class Delivery(Generic[T]):
    """One end. Times are seconds of one clock that never goes back."""

    def __init__(self, first_retry_s: float = 0.2, last_retry_s: float = 2.0, reorder_s: float = 0.02) -> None:
        """Begin with nothing sent or received.

        Args:
            first_retry_s: a message is sent again if it is not confirmed within this time, doubled each time,
            last_retry_s: up to this.
            reorder_s: it is sent again at once if one that was sent this much later is confirmed.
        """
        self._first_retry_s = first_retry_s
        self._last_retry_s = last_retry_s
        self._reorder_s = reorder_s
        #: Not sent yet, as the window is full.
        self._waiting: deque[T] = deque()
        #: {number: message that is not confirmed}, oldest first
        self._sent: dict[int, _Sent[T]] = {}
        self._last_number = 0
        #: No message that is not confirmed is due before.
        self._next_retry = _NEVER
        #: When the last of the confirmed ones was sent.
        self._confirmed_at = -_NEVER
        self._have = 0
        #: {number: message that came before its turn}
        self._early: dict[int, T] = {}
        self._must_confirm = False
        #: For tests and diagnosis.
        self.sent_again = 0
        self.came_again = 0

    @property
    def unconfirmed(self) -> list[T]:
        """Messages that the other end may not have, oldest first."""
        return [*(sent.message for sent in self._sent.values()), *self._waiting]

    @property
    def is_settled(self) -> bool:
        """Whether the other end has everything."""
        return not self._sent and not self._waiting

    def due(self) -> float:
        """When ``packets`` will have something again, if nothing else happens; infinity for never."""
        if self._must_confirm or (self._waiting and self._is_open()):
            return 0.0
        return self._next_retry if self._sent else _NEVER

    def send(self, message: T) -> None:
        """Accept a message; ``packets`` returns it when it is to be transmitted."""
        self._waiting.append(message)

    def packets(self, now: float) -> list[tuple[Header, T | None]]:
        """What to transmit now, in this order."""
        numbers = []
        if self._next_retry <= now:
            for number, sent in self._sent.items():
                if sent.due <= now:
                    if sent.due > _AT_ONCE:
                        sent.interval_s = min(sent.interval_s * 2, self._last_retry_s)
                    sent.at, sent.due = now, now + sent.interval_s
                    self.sent_again += 1
                    numbers.append(number)
            self._next_retry = min((sent.due for sent in self._sent.values()), default=_NEVER)
        while self._waiting and self._is_open():
            self._last_number += 1
            message = self._waiting.popleft()
            self._sent[self._last_number] = _Sent(message, now, now + self._first_retry_s, self._first_retry_s)
            self._next_retry = min(self._next_retry, now + self._first_retry_s)
            numbers.append(self._last_number)
        ahead = self._ahead()
        packets: list[tuple[Header, T | None]] = [
            (Header(number, self._have, ahead), self._sent[number].message) for number in numbers
        ]
        if not packets and self._must_confirm:
            packets.append((Header(0, self._have, ahead), None))
        self._must_confirm = False
        return packets

    def receive(self, header: Header, message: T) -> list[T]:
        """Take what has arrived; ``message`` is ignored if the header says that there is none.

        Returns:
            The messages whose turn has come, in order.

        Raises:
            RemoteProtocolError: it confirms what was not sent, or is further ahead than the window.
        """
        if header.have > self._last_number or header.number > self._have + WINDOW:
            raise RemoteProtocolError(f"packet {header.number}, confirming {header.have} of {self._last_number}")
        self._confirmed(header)
        if not header.number:
            return []
        self._must_confirm = True
        if header.number <= self._have or header.number in self._early:
            self.came_again += 1
            return []
        self._early[header.number] = message
        ready = []
        while self._have + 1 in self._early:
            self._have += 1
            ready.append(self._early.pop(self._have))
        return ready

    def _confirmed(self, header: Header) -> None:
        confirmed = []
        for number in self._sent:
            if number > header.have:
                break
            confirmed.append(number)
        first = header.have + 2
        ahead = header.ahead
        while ahead:
            lowest = ahead & -ahead
            confirmed.append(first + lowest.bit_length() - 1)
            ahead ^= lowest
        last = max((sent.at for number in confirmed if (sent := self._sent.pop(number, None))), default=-_NEVER)
        if last > self._confirmed_at:
            self._confirmed_at = last
            for sent in self._sent.values():
                if sent.at + self._reorder_s < last:
                    sent.due = self._next_retry = _AT_ONCE

    def _is_open(self) -> bool:
        return not self._sent or self._last_number < next(iter(self._sent)) + WINDOW - 1

    def _ahead(self) -> int:
        first = self._have + 2
        return sum(1 << number - first for number in self._early)
