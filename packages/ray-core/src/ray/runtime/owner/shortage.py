"""What a process does that may not have one more connection: it says so, and tries again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ray.clock import monotonic, wall_time
from ray.messages import node
from ray.runtime.process.peers import OutOfDescriptorsError
from ray.runtime.process.telling import say

if TYPE_CHECKING:
    from ray.runtime.owner.owner import OwnerRuntime

#: How long until it tries again, and how often it says so.
AGAIN_S = 0.5
TELL_AGAIN_S = 30.0


class Shortage:
    """Of descriptors. Called under the runtime's lock."""

    def __init__(self, runtime: OwnerRuntime) -> None:
        self._runtime = runtime
        self._tell = 0.0
        #: What was said last, and until when it holds.
        self._last = ("", 0.0)

    def sentence(self) -> str:
        """What is lacking at the moment; empty if nothing is."""
        text, until = self._last
        return text if monotonic() < until else ""

    def try_again(self, error: OutOfDescriptorsError, action: Callable[[], None]) -> None:
        """Do in a while what could not be done now."""
        runtime = self._runtime
        runtime.timers.after(AGAIN_S, action)
        now = monotonic()
        text = f"{error}. What needs it waits until others are closed."
        self._last = text, now + 2 * AGAIN_S
        if now >= self._tell:
            self._tell = now + TELL_AGAIN_S
            runtime.node.send(node.RecordError(node.ErrorRecord("out_of_descriptors", text, wall_time())))
            say(text)
