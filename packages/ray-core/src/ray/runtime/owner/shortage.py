"""What a process does that may not have one more connection: it says so, and tries again."""

from __future__ import annotations

from collections.abc import Callable

from ray.clock import monotonic, wall_time
from ray.messages import node
from ray.runtime.process.own_faults import OutOfDescriptorsError
from ray.runtime.process.telling import say
from ray.runtime.process.timers import Timers

#: How long until it tries again, and how often it says so.
AGAIN_S = 0.5
TELL_AGAIN_S = 30.0


class Shortage:
    """Of descriptors. Called under the runtime's lock."""

    def __init__(self, timers: Timers, tell_node: Callable[[node.RecordError], None]) -> None:
        self._timers = timers
        self._tell_node = tell_node
        self._tell = 0.0
        #: What was said last, and until when it holds.
        self._last = ("", 0.0)

    def sentence(self) -> str:
        """What is lacking at the moment; empty if nothing is."""
        text, until = self._last
        return text if monotonic() < until else ""

    def try_again(self, error: OutOfDescriptorsError, action: Callable[[], None]) -> None:
        """Do in a while what could not be done now."""
        self._timers.after(AGAIN_S, action)
        now = monotonic()
        text = f"{error}. What needs it waits until others are closed."
        self._last = text, now + 2 * AGAIN_S
        if now >= self._tell:
            self._tell = now + TELL_AGAIN_S
            self._tell_node(node.RecordError(node.ErrorRecord("out_of_descriptors", text, wall_time())))
            say(text)
