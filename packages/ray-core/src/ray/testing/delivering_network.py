"""Links that lose, double, delay and reorder, with a real ``Delivery`` at each end."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from ray.protocol.delivery import Delivery
from ray.testing.virtual_time import LinkQuality, Network, VirtualClock


class DeliveringNetwork:
    """For its users the same as ``Network``: each message arrives, once and in order, because of ``Delivery``."""

    def __init__(self, clock: VirtualClock, rng: random.Random, quality: LinkQuality) -> None:
        self._clock = clock
        self._links = Network(clock, rng, quality)
        self._receivers: dict[str, Callable[[str, Any], object]] = {}
        #: {(here, there): this end}
        self._ends: dict[tuple[str, str], Delivery[Any]] = {}

    def join(self, address: str, receive: Callable[[str, Any], object]) -> None:
        """Messages to ``address`` are given to ``receive(sender, message)`` from now on."""
        self._receivers[address] = receive
        self._links.join(address, partial(self._arrived, address))

    def leave(self, address: str) -> None:
        """Whatever arrives there from now on is confirmed, as by an operating system, and gone."""
        self._receivers.pop(address, None)

    def cut(self, one: str, other: str, until_s: float) -> None:
        """Nothing passes between the two before then."""
        self._links.cut(one, other, until_s)

    def send(self, sender: str, to: str, message: Any) -> None:
        """Have ``message`` arrive some time later."""
        self._end(sender, to).send(message)
        self._transmit(sender, to)

    def _end(self, here: str, there: str) -> Delivery[Any]:
        end = self._ends.get((here, there))
        if end is None:
            end = self._ends[here, there] = Delivery(first_retry_s=0.02, last_retry_s=0.2, reorder_s=0.005)
        return end

    def _transmit(self, here: str, there: str) -> None:
        """Send what is due, and come back when something will be."""
        end, clock = self._end(here, there), self._clock
        for packet in end.packets(clock.now):
            self._links.send(here, there, packet, reliable=False)
        due_s = end.due()
        if due_s < float("inf"):
            clock.at(max(clock.now, due_s), self._transmit_if_due, here, there)

    def _transmit_if_due(self, here: str, there: str) -> None:
        if self._end(here, there).due() <= self._clock.now:
            self._transmit(here, there)

    def _arrived(self, here: str, sender: str, packet: Any) -> None:
        header, message = packet
        messages = self._end(here, sender).receive(header, message)
        self._transmit(here, sender)
        for each in messages:
            receive = self._receivers.get(here)
            if receive is not None:
                receive(sender, each)
