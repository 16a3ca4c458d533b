"""Connections of simulated processes: one to each other process, which may break while both live, and be made anew."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ray.testing.simulated_world import ConnectionEnd, End, Links
from ray.testing.virtual_time import VirtualClock

#: How long the other end of a connection that breaks takes to see it.
_SEEN_S = (0.0, 0.05)


@dataclass(frozen=True, slots=True)
class Carried:
    """A message on a connection: its ``number`` tells that from those which the two had before and after it."""

    number: int
    frames: Sequence[Any]


class Connections:
    """All of them. What is sent by one that has broken is gone."""

    def __init__(self, network: Links, clock: VirtualClock, rng: random.Random) -> None:
        self._network = network
        self._clock = clock
        self._rng = rng
        #: {address: process there} of those that live.
        self.ends: dict[str, End] = {}
        #: {address: process id}, also of the dead.
        self.ids: dict[str, bytes] = {}
        #: {(here, there): number of the connection, as the process here knows it}
        self._numbers: dict[tuple[str, str], int] = {}
        #: {address: those that have, or had, a connection to it}
        self._peers: dict[str, dict[str, None]] = {}
        #: See ``Ways``.
        self.broken = 0

    def join(self, address: str, end: End) -> None:
        """A process lives from now on."""
        self.ends[address] = end
        self.ids[address] = end.id
        self._network.join(address, partial(self._arrived, address))

    def leave(self, address: str) -> None:
        """It has died; what it has sent still arrives, and the end of its connections behind that."""
        del self.ends[address]
        self._network.leave(address)
        for peer in self._peers.pop(address, ()):
            self._network.send(address, peer, ConnectionEnd())

    def connect(self, here: str, there: str) -> None:
        """From now on the two hear of each other's deaths."""
        if there in self.ends:
            self._peers.setdefault(there, {})[here] = None
            self._peers.setdefault(here, {})[there] = None

    def send(self, here: str, there: str, frames: Sequence[Any]) -> None:
        """Have a message arrive some time later, unless the connection breaks, or is lost already."""
        self._network.send(here, there, Carried(self._numbers.get((here, there), 0), frames))

    def pairs(self) -> list[tuple[str, str]]:
        """Living processes that have, or had, a connection."""
        return [(here, there) for here, peers in self._peers.items() for there in peers if there in self.ends]

    def breaks(self, here: str, there: str) -> None:
        """A connection breaks: the process here sees it now, the other one soon."""
        self.broken += 1
        number = self._numbers.get((here, there), 0) + 1
        self._lost(here, there, number)
        self._clock.after(self._rng.uniform(*_SEEN_S), self._lost, there, here, number)

    def _lost(self, here: str, there: str, number: int) -> None:
        end = self.ends.get(here)
        if end is not None and number > self._numbers.get((here, there), 0):
            self._numbers[here, there] = number
            end.peer_lost(self.ids[there])

    def _arrived(self, here: str, sender: str, message: Any) -> None:
        end = self.ends.get(here)
        if end is None:
            return
        if not isinstance(message, Carried | ConnectionEnd):
            end.hear(message)
            return
        if isinstance(message, ConnectionEnd):
            self._lost(here, sender, self._numbers.get((here, sender), 0) + 1)
            return
        self._lost(here, sender, message.number)  # the other end has made a new one
        if message.number == self._numbers.get((here, sender), 0) and here in self.ends:
            end.receive(sender, message.frames)
