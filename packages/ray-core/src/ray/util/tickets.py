"""Tickets that an actor gives to processes that wait for it, or hold something of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from types import TracebackType
from typing import Any, TypeAlias

from ray.runtime.completion import promise
from ray.runtime.refs.ref import ObjectRef

#: Options of an actor that gives tickets. It needs no CPU. A group, though no method is in it, has its methods run on a
#: thread: there ``ray.cancel`` of a task that has called one does not interrupt it halfway.
OPTIONS: dict[str, Any] = {"num_cpus": 0, "concurrency_groups": {"none": 1}}

#: A number, and a ref in a list, so that it is not resolved on its way.
Ticket: TypeAlias = tuple[int, list[ObjectRef[None]]]


class Tickets:
    """What an actor has promised to whom; its lock, too.

    A ticket is a number and a ref. The ref completes when the actor calls the number, and its holder is known to live
    as long as it has the ref: when that process drops it, ends or is killed, or its node is, the actor is told.

    Every method of the actor runs ``with`` this object, and so does what is told: one at a time, whatever the threads.
    """

    def __init__(self, gone: Callable[[int], object]) -> None:
        """Make it.

        Args:
            gone: told of the number of a ticket that nobody holds any more; it must not raise.
        """
        self._gone = gone
        self._lock = threading.Lock()
        #: {number: what completes its ref}
        self._open: dict[int, Callable[[], None]] = {}
        self._numbers = count(1)
        #: Numbers that nobody holds any more, of which the actor has not been told.
        self._unheld: deque[int] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()
        self._tell()

    def issue(self) -> Ticket:
        """A new ticket, to be returned to the caller."""
        number = next(self._numbers)
        ref, keep = promise(lambda: self._drop(number))
        self._open[number] = keep
        return number, [ref]

    def call(self, number: int) -> None:
        """Complete the ref of a ticket; no effect if nobody holds it any more."""
        keep = self._open.get(number)
        if keep is not None:
            keep()

    def _drop(self, number: int) -> None:
        """Nobody holds it. On any thread, perhaps in the middle of one of the actor's methods: so it never waits."""
        self._unheld.append(number)
        self._tell()

    def _tell(self) -> None:
        """Tell the actor, unless it is at work: then the thread that is does so when it has finished."""
        while self._unheld and self._lock.acquire(blocking=False):
            try:
                while self._unheld:
                    number = self._unheld.popleft()
                    if self._open.pop(number, None) is not None:
                        self._gone(number)
            finally:
                self._lock.release()


class TicketActor:
    """What actors that give tickets have in common. None of their methods waits."""

    #: Each makes its own: ``Tickets(self._gone)``.
    _tickets: Tickets

    def made_with(self) -> tuple[object, ...]:
        """What a second one of its name has to be made with as well."""
        return ()

    def withdraw(self, number: int) -> object:
        """Its holder waits no more. Returns what ``_gone`` does."""
        with self._tickets:
            return self._gone(number)

    def give_back(self, outcome: object) -> None:
        """What a method has returned to somebody who waited no more."""
        if isinstance(outcome, tuple):
            self.withdraw(outcome[0])

    def _gone(self, number: int) -> object:
        """A ticket is held no more, or was withdrawn; perhaps one after the other."""
        raise NotImplementedError
