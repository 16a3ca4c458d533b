"""How much may be under way to a peer: credits, counted above ZeroMQ. Pure.

ZeroMQ's own limits drop messages or stop the sender. Here a sender never reaches them: it hands over no more than the
window, and keeps the rest. The receiver says from time to time how much it has taken so far, in total, so a repeated
or late credit does no harm.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator

from ray.exceptions import RemoteProtocolError

#: Units (messages of ZeroMQ) under way at most. ZeroMQ learns in steps of half its limit what has left its queue, so
#: its limit is to be more than twice this.
WINDOW_UNITS = 256
#: Bytes under way at most, except that a unit is never held back for being larger than what is left.
WINDOW_BYTES = 16 * 1024 * 1024

_CREDIT = struct.Struct("<QQ")


class SendWindow:
    """What was handed to ZeroMQ for a peer, against what the peer has taken."""

    __slots__ = ("_sent", "_taken_nbytes", "_taken_units")

    def __init__(self) -> None:
        #: One pair: (units, bytes).
        self._sent: deque[tuple[int, int]] = deque([(0, 0)], 1)
        self._taken_units = self._taken_nbytes = 0

    @property
    def nbytes(self) -> int:
        """That were sent so far."""
        return self._sent[0][1]

    @property
    def is_open(self) -> bool:
        """Whether one more unit may go."""
        units, nbytes = self._sent[0]
        return units - self._taken_units < WINDOW_UNITS and nbytes - self._taken_nbytes < WINDOW_BYTES

    def sending(self, nbytes: int) -> Iterator[None]:
        """When advanced, counts one more unit; ``sent``, as a step among others."""
        units, before = self._sent[0]
        return map(self._sent.append, ((units + 1, before + nbytes),))

    def sent(self, nbytes: int) -> None:
        """One more unit has gone."""
        next(self.sending(nbytes))

    def credited(self, credit: bytes) -> None:
        """The peer has taken this much so far.

        Raises:
            RemoteProtocolError: it says that it has taken more than was sent, or is not a credit.
        """
        if len(credit) != _CREDIT.size:
            raise RemoteProtocolError(f"credit of {len(credit)} bytes")
        units, nbytes = _CREDIT.unpack(credit)
        most_units, most_nbytes = self._sent[0]
        if units > most_units or nbytes > most_nbytes:
            raise RemoteProtocolError(f"peer has taken {units} units, {nbytes} bytes; sent were {most_units}")
        self._taken_units = max(self._taken_units, units)
        self._taken_nbytes = max(self._taken_nbytes, nbytes)


class ReceiveWindow:
    """What was taken from a peer, against what it was told."""

    __slots__ = ("_nbytes", "_told_nbytes", "_told_units", "_units")

    def __init__(self) -> None:
        self._units = self._nbytes = 0
        self._told_units = self._told_nbytes = 0

    def taken(self, nbytes: int) -> bool:
        """One more unit has been taken; returns whether it is time to say so."""
        self._units += 1
        self._nbytes += nbytes
        return (
            self._units - self._told_units >= WINDOW_UNITS // 4 or self._nbytes - self._told_nbytes >= WINDOW_BYTES // 4
        )

    def credit(self) -> bytes:
        """What to tell the peer now."""
        self._told_units, self._told_nbytes = self._units, self._nbytes
        return _CREDIT.pack(self._units, self._nbytes)
