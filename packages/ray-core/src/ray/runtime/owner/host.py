"""What an owner's parts need of the process that they are in, a driver or a worker: the parts know neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ray.runtime.process.waiting import Waiter


class Host(Protocol):
    """A process of a session."""

    #: There are threads that must not wait: ask ``check_blocking`` first.
    guarded: bool
    #: The thread that polls may sleep for long: code that adds an object without sending a message must wake it.
    rests: bool

    def check_open(self) -> None:
        """Raise if the session has ended."""

    def check_blocking(self, call: str) -> None:
        """Raise BlockingCallError if a wait in ``call`` on this thread would stop the event loop of an async actor."""

    def block(self, waiter: Waiter, timeout_s: float | None) -> bool:
        """Wait without the lock; False if the time was over first."""

    def wake_resting(self) -> None:
        """Have the thread that polls look at once, if it may sleep for long."""

    def trouble(self) -> str:
        """Why tasks may have to wait at the moment, a sentence; empty if nothing is known."""

    def parent_task_id(self) -> bytes | None:
        """Id of the task whose cancellation cancels what this thread submits."""

    def collect(self) -> None:
        """Free what nobody holds; under the lock."""
