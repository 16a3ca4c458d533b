"""Connections between simulated processes that take their time, and break."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ray.abc.transport import Connection, Frame
from ray.protocol.conversations import number_of
from ray.testing.virtual_time import VirtualClock


class Between(Protocol):
    """What lies between them."""

    clock: VirtualClock

    def delay_s(self) -> float:
        """How long a message takes."""

    def doubles(self) -> bool:
        """Whether a message of a conversation comes twice, as after a loss that only one end has heard of."""


class End(Protocol):
    """A process."""

    lives: bool

    def hears(self, connection: Wire, frames: Sequence[Frame]) -> None:
        """A message has come."""

    def loses(self, connection: Wire) -> None:
        """A connection is lost."""


class Wire(Connection):
    """One end of a connection between two nodes."""

    other: Wire

    def __init__(self, between: Between, here: End) -> None:
        self.here = here
        self._between = between
        self._busy_until = 0.0

    def send(self, frames: Sequence[Frame]) -> None:
        if not self.closed:
            between = self._between
            self._busy_until = max(self._busy_until, between.clock.now + between.delay_s())
            message = tuple(frames)
            between.clock.at(self._busy_until, self.other._arrives, message)
            if number_of(message[0]) and between.doubles():
                between.clock.at(self._busy_until + between.delay_s(), self.other._arrives, message)

    def _arrives(self, frames: Sequence[Frame]) -> None:
        if not self.closed and self.here.lives:
            self.here.hears(self, frames)

    def breaks(self) -> None:
        """What is under way is lost; the end hears of it in a while."""
        if not self.closed:
            self.closed = True
            self._between.clock.after(self._between.delay_s(), self._is_lost)

    def _is_lost(self) -> None:
        if self.here.lives:
            self.here.loses(self)

    def abort(self) -> None:
        """What was sent arrives, and the end of it behind that."""
        if not self.closed:
            self.closed = True
            self._between.clock.at(max(self._busy_until, self._between.clock.now), self.other.breaks)

    close = abort

    @property
    def queued_bytes(self) -> int:
        return 0
