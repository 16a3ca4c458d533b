"""What a listener allows peers that have said nothing yet, whichever transport it belongs to.

A program that can reach a socket can open connections and leave them, or announce what never comes. Until a peer's
first message is there, the peer costs a descriptor and a few kilobytes, for a few seconds, and few like it are let in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from ray.clock import monotonic

Key = TypeVar("Key", bound=Hashable)

#: The first message of a peer that has connected may have so many bytes, frames and lengths together.
FIRST_MESSAGE_BYTES = 64 * 1024
#: A peer has so long for it.
FIRST_MESSAGE_S = 3.0
#: So many peers may be at it, and a part of the descriptors that the process may have at most.
MAX_STRANGERS = 256
_DESCRIPTORS_EACH = 4


class Strangers(Generic[Key]):
    """Those of one listener, oldest first. Pure but for the clock; the caller ends their connections.

    A finaliser or a signal handler that polls may interrupt any method here and change what it works on. So what is
    looked at is copied in one step, by what makes no container on the way: before 3.12, finalisers run where one is
    made.
    """

    def __init__(self, limit: int | None = None, clock: Callable[[], float] = monotonic) -> None:
        """``limit``: how many there may be; None: as many as the process can afford."""
        self.limit = limit or min(MAX_STRANGERS, max(8, _descriptors() // _DESCRIPTORS_EACH))
        self._clock = clock
        #: {key: until when it may take}; to be looked at only.
        self.deadlines: dict[Key, float] = {}

    def __len__(self) -> int:
        return len(self.deadlines)

    def arrived(self, key: Key) -> None:
        """A client has connected, or is to leave: either way there is a time for it."""
        self.deadlines.pop(key, None)
        self.deadlines[key] = self._clock() + FIRST_MESSAGE_S

    def left(self, key: Key) -> None:
        """It has said something, or is gone."""
        self.deadlines.pop(key, None)

    def oldest(self) -> Key | None:
        """The one that has been at it for longest; forgotten here."""
        for key in list(self.deadlines)[:1]:
            self.left(key)
            return key
        return None

    def surplus(self) -> list[Key]:
        """Those whose time is over, and the oldest of those that are too many; forgotten here."""
        if not self.deadlines:
            return []
        known = self.deadlines.copy()
        now = self._clock()
        surplus = len(known) - self.limit
        found = [key for number, key in enumerate(known) if number < surplus or known[key] <= now]
        return [key for key in found if self.deadlines.pop(key, None) is not None]

    def wait_s(self, timeout_s: float | None) -> float | None:
        """How long one may wait of ``timeout_s``: no longer than the oldest has."""
        for deadline in list(self.deadlines.values())[:1]:
            left_s = max(0.0, deadline - self._clock())
            return left_s if timeout_s is None else min(left_s, timeout_s)
        return timeout_s


def _descriptors() -> int:
    try:
        import resource
    except ImportError:  # not on this system
        return MAX_STRANGERS * _DESCRIPTORS_EACH
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_STRANGERS * _DESCRIPTORS_EACH if soft == resource.RLIM_INFINITY else soft
