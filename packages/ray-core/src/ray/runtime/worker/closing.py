"""An actor that is to end, behind what it has, takes no more calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ray.messages import wire

if TYPE_CHECKING:
    from ray.runtime.worker.call import TaskCall

TERMINATED = "__ray_terminate__ was called, or all handles went out of scope"


class Closing:
    """Called under the runtime's lock.

    What the actor still runs may wait for one of the calls that come now, through others. Behind its end they would
    wait for what it runs, and nothing would come to an end: so they go back at once, and fail.
    """

    __slots__ = ("_call", "_is_concurrent", "_is_exiting", "_queued", "_running", "reason")

    def __init__(
        self,
        queued: dict[bytes, TaskCall],
        running: dict[bytes, TaskCall],
        is_concurrent: Callable[[], bool],
        is_exiting: Callable[[], bool],
    ) -> None:
        """Make one.

        Args:
            queued: {task id: call} that have not started.
            running: {task id: call} that run.
            is_concurrent: whether calls may overlap.
            is_exiting: whether the process takes no more work at all.
        """
        self._queued = queued
        self._running = running
        self._is_concurrent = is_concurrent
        self._is_exiting = is_exiting
        #: The call that ends the actor, if one does.
        self._call = b""
        #: Why it is to end, if it is.
        self.reason = ""

    def begin(self, call: bytes = b"") -> None:
        """The actor ends after the calls that it has; ``call``: by one of them, which may be cancelled."""
        self.reason, self._call = TERMINATED, call
        if not self._is_concurrent():
            for peer in {other.peer for calls in (self._queued, self._running) for other in list(calls.values())}:
                peer.send(wire.Replies([], reason=self.reason))  # it may keep calls until others have ended

    def refuses(self) -> bool:
        """Whether no more calls are taken."""
        id = self._call
        if id and id not in self._queued and id not in self._running and not self._is_exiting():  # it goes along these
            self.reason, self._call = "", b""
        return bool(self.reason)
