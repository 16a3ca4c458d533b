"""An actor that is to end, behind what it has, takes no more calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.messages import wire

if TYPE_CHECKING:
    from ray.runtime.worker.worker import WorkerRuntime

TERMINATED = "__ray_terminate__ was called, or all handles went out of scope"


class Closing:
    """Called under the runtime's lock.

    What the actor still runs may wait for one of the calls that come now, through others. Behind its end they would
    wait for what it runs, and nothing would come to an end: so they go back at once, and fail.
    """

    __slots__ = ("_call", "_worker", "reason")

    def __init__(self, worker: WorkerRuntime) -> None:
        self._worker = worker
        #: The call that ends the actor, if one does.
        self._call = b""
        #: Why it is to end, if it is.
        self.reason = ""

    def begin(self, call: bytes = b"") -> None:
        """The actor ends after the calls that it has; ``call``: by one of them, which may be cancelled."""
        self.reason, self._call = TERMINATED, call
        worker = self._worker
        if not worker.concurrent:
            for peer in {other.peer for calls in (worker.queued, worker.running) for other in list(calls.values())}:
                peer.send(wire.Replies([], reason=self.reason))  # it may keep calls until others have ended

    def refuses(self) -> bool:
        """Whether no more calls are taken."""
        id, worker = self._call, self._worker
        if id and id not in worker.queued and id not in worker.running and not worker.exiting:  # it goes along these
            self.reason, self._call = "", b""
        return bool(self.reason)
