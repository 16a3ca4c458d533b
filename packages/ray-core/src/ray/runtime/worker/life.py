"""Whether a worker process goes on."""

from __future__ import annotations


class Life:
    """Why this process takes no more work, once it does not. Set under the runtime's lock, or by the call that runs."""

    __slots__ = ("_executions", "exiting", "left")

    def __init__(self) -> None:
        #: Why the process ends after the current call, or empty.
        self.exiting = ""
        #: The process is about to end.
        self.left = False
        #: {hash: executions} of functions with max_calls
        self._executions: dict[bytes, int] = {}

    def executed(self, function: bytes, max_calls: int) -> None:
        """A function that is to run so often in one process has run once more."""
        count = self._executions[function] = self._executions.get(function, 0) + 1
        if count >= max_calls:
            self.exiting = f"max_calls={max_calls} was reached"
