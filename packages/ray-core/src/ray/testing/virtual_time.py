"""Time and messages for simulations: a clock that jumps from event to event, and links that delay and lose."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class VirtualClock:
    """Time that passes only from event to event. Events of the same time run in the order of their making."""

    def __init__(self) -> None:
        #: Seconds since the start.
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._events)

    def after(self, delay_s: float, fn: Callable[..., object], *args: Any) -> None:
        """Call ``fn(*args)`` in ``delay_s`` seconds, which may be 0 but not less."""
        self.at(self.now + delay_s, fn, *args)

    def at(self, time_s: float, fn: Callable[..., object], *args: Any) -> None:
        """Call ``fn(*args)`` at ``time_s``, which may be now but not earlier."""
        if time_s < self.now:
            raise ValueError(f"an event cannot be in the past: at {time_s} s, and it is {self.now} s")
        heapq.heappush(self._events, (time_s, next(self._numbers), fn, args))

    def run(
        self,
        until_s: float = float("inf"),
        most: float = float("inf"),
        look: Callable[[], None] | None = None,
        every: int = 1,
    ) -> int:
        """Run what is due until ``until_s``, also what that brings about; returns the number of events.

        ``look`` is called after each ``every`` events.

        Raises:
            AssertionError: there were ``most``, and no end.
        """
        count = 0
        events = self._events
        while events and events[0][0] <= until_s:
            if count >= most:
                raise AssertionError(f"at {self.now:.6f} s: {count} events, and no end")
            self.now, _, fn, args = heapq.heappop(events)
            fn(*args)
            count += 1
            if look is not None and not count % every:
                look()
        if until_s != float("inf"):
            self.now = max(self.now, until_s)
        return count


@dataclass(frozen=True, slots=True)
class LinkQuality:
    """How messages travel. Times in seconds."""

    min_delay_s: float = 0.000_1
    max_delay_s: float = 0.001
    loss: float = 0.0
    """Probability that one sending of a message is lost."""
    resend_s: float = 0.2
    """A reliable message that was lost is sent again after this time."""
    doubled: float = 0.0
    """Probability that an unreliable message arrives twice."""


class Network:
    """Links between addresses. Reliable messages of a pair keep their order, whatever is lost on the way."""

    def __init__(self, clock: VirtualClock, rng: random.Random, quality: LinkQuality) -> None:
        self._clock = clock
        self._rng = rng
        self._quality = quality
        self._receivers: dict[str, Callable[[str, Any], object]] = {}
        #: {(from, to): when the last reliable message arrives}
        self._busy_until: dict[tuple[str, str], float] = {}
        #: {(one, other): when they can hear each other again}
        self._cuts: dict[frozenset[str], float] = {}
        self.sent = self.delivered = self.lost = 0

    def join(self, address: str, receive: Callable[[str, Any], object]) -> None:
        """Messages to ``address`` are given to ``receive(sender, message)`` from now on."""
        self._receivers[address] = receive

    def leave(self, address: str) -> None:
        """Whatever arrives there from now on is gone, as at a process that has died."""
        self._receivers.pop(address, None)

    def cut(self, one: str, other: str, until_s: float) -> None:
        """Nothing that is sent from now on passes between the two before then: what is reliable passes after that."""
        self._cuts[frozenset((one, other))] = until_s

    def send(self, sender: str, to: str, message: Any, *, reliable: bool = True) -> None:
        """Have ``message`` arrive some time later; an unreliable one perhaps never, and in any order."""
        quality, rng = self._quality, self._rng
        self.sent += 1
        delay_s = rng.uniform(quality.min_delay_s, quality.max_delay_s)
        while quality.loss and rng.random() < quality.loss:
            self.lost += 1
            if not reliable:
                return
            delay_s += quality.resend_s
        arrival_s = self._clock.now + delay_s
        if self._cuts and self._cuts.get(frozenset((sender, to)), 0.0) > self._clock.now:
            if not reliable:
                self.lost += 1
                return
            arrival_s = self._cuts[frozenset((sender, to))] + delay_s
        if not reliable and quality.doubled and rng.random() < quality.doubled:
            again_s = self._clock.now + rng.uniform(quality.min_delay_s, quality.max_delay_s)
            self._clock.at(again_s, self._deliver, sender, to, message)
        if reliable:
            pair = sender, to
            arrival_s = self._busy_until[pair] = max(arrival_s, self._busy_until.get(pair, 0.0))
        self._clock.at(arrival_s, self._deliver, sender, to, message)

    def _deliver(self, sender: str, to: str, message: Any) -> None:
        receive = self._receivers.get(to)
        if receive is not None:
            self.delivered += 1
            receive(sender, message)
