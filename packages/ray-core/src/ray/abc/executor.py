"""Executor seam: how a worker process runs the calls it receives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol


class Call(Protocol):
    """One task or actor call, decoded as late as possible. Made by the worker, run by an executor."""

    name: str
    #: Concurrency group that the method asks for, or None.
    group: str | None

    def run(self) -> None:
        """Run the user's function on this thread and deliver the outcome; never raises."""

    async def run_async(self) -> None:
        """The same for coroutine functions, on the executor's loop. Sync functions run inline."""

    def fail(self, error: Exception) -> None:
        """Deliver ``error`` in the place of the outcome, unless one has been; of a call that could not be run."""

    @property
    def is_async(self) -> bool:
        """Whether the target is a coroutine function (or async generator function)."""
        raise NotImplementedError

    @property
    def in_thread(self) -> bool:
        """Whether the target, which is then not async, asks not to run on an event loop."""
        raise NotImplementedError


class Executor(ABC):
    """Runs calls in the order of ``submit``, at most ``max_concurrency`` at a time.

    Every call that is not dropped by ``close`` is run or fails, whatever the user's code does to the threads and loops
    of the process: a caller waits for it.
    """

    name: str
    #: Whether calls may run on several threads or interleave; the worker then keeps per-thread task context.
    concurrent: bool = False

    @abstractmethod
    def submit(self, call: Call) -> None:
        """Accept a call. Never blocks; called from the worker's reader thread."""

    @abstractmethod
    def run(self) -> None:
        """Serve until ``close``. Called once, on the process's main thread, which it keeps.

        Raises:
            RuntimeError: it cannot go on, since the user's code has ended what it serves with. The text, a clause that
                follows "the actor is dead:", says what. Calls that have begun, or are queued, are left as they are.
        """

    @abstractmethod
    def idle(self) -> bool:
        """Whether nothing is queued (a call may still be running). Used to decide when to flush results."""

    @abstractmethod
    def close(self) -> None:
        """Finish what is running, drop what is queued, make ``run`` return. Idempotent; any thread."""
