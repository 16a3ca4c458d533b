"""Answers to numbered requests that come over one socket in any order, for the clients of stores.

One of the threads that wait receives for all of them, so that a request whose answer takes seconds holds nobody up, and
there is no thread of our own.

Finalisers and signal handlers run between two steps of the code here, on the same thread, and may ask in their turn. So
there is no lock that the interrupted call could keep; what has come is on record in the same step, and stays there
until it is an answer. A look and the step behind it have no call in between, so nothing comes there. Where somebody
inside has received what the interrupted call waits for, or an interrupted call has the claim of the receiving thread,
the waiting threads find out by themselves: none waits for long without looking.
"""

from __future__ import annotations

import itertools
from _thread import LockType, allocate_lock, get_ident
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from ray.clock import sleep

#: For so long a call that receives may wait: then it looks whether its answer has come in another way.
LISTEN_S = 0.02
#: After so long a thread that waits for the receiving one receives itself.
_TRUST_S = 0.05
#: For so long at most ``leave`` waits for the receiving thread.
_LEAVE_S = 1.0

A = TypeVar("A")


class Wire(Protocol[A]):
    """A socket, and how to read what comes. Errors that none of these expects leave what has come on record."""

    def receive(self) -> Iterator[Any]:
        """What yields, when advanced, one packet; raises BlockingIOError if none comes for ``LISTEN_S``."""

    def read(self, packet: Any) -> tuple[int, A]:
        """The number of the request, and the answer. It may be asked twice. Raises if the connection is at an end."""

    def undo(self, answer: A) -> None:
        """Nobody wants this answer any more."""

    def lost(self, error: OSError | None) -> Exception:
        """What to raise now that the socket fails, or has been silent for too long."""


class _Request(Generic[A]):
    """One that has no answer yet, or whose thread has not seen it."""

    __slots__ = ("answer", "bell")

    def __init__(self) -> None:
        self.answer: A | None = None
        #: Released when there is something to see, by a thread that waits for another one to receive.
        self.bell: LockType | None = None

    def ring(self) -> None:
        bell = self.bell
        if bell is not None:
            try:
                bell.release()
            except RuntimeError:  # it rings already
                pass


class Answers(Generic[A]):
    """The requests of one connection. Safe from any thread, and from whatever interrupts it."""

    def __init__(self, wire: Wire[A], patience_s: float) -> None:
        """A socket on which nothing comes for ``patience_s`` is lost."""
        self._wire = wire
        self._most_silent = patience_s / LISTEN_S
        self._numbers = itertools.count(1)
        #: {number: request}; an answer to another number is for a call that has ended otherwise.
        self._requests: dict[int, _Request[A]] = {}
        #: What has come, and is no answer yet.
        self._packets: deque[Any] = deque()
        #: The claim of the call that receives: (its thread,).
        self._reader: tuple[int] | None = None

    def ask(self, send: Callable[[int], object]) -> A:
        """Call ``send`` with a number that is not in use; wait for the answer to it."""
        number = next(self._numbers)
        request: _Request[A] = _Request()
        self._requests[number] = request
        try:
            send(number)
            return self._await(request)
        except BaseException:  # of a signal handler, if the socket is whole: the answer comes all the same
            self._requests.pop(number, None)
            if request.answer is not None:
                self._wire.undo(request.answer)
            raise
        finally:
            self._requests.pop(number, None)
            if self._requests:
                self._pass_on()

    def _await(self, request: _Request[A]) -> A:
        """The answer.

        A function of its own: a ``try`` of Python 3.13 does not hold where a loop in it jumps back.
        """
        silent = 0
        while request.answer is None:
            silent = 0 if self._wait(request) else silent + 1
            if silent > self._most_silent:
                raise self._wire.lost(None)
        return request.answer

    def end(self) -> None:
        """The connection is at an end: all that wait look."""
        for request in self._requests.copy().values():
            request.ring()

    def leave(self) -> None:
        """After ``end`` and the shutdown of the socket: let another thread come back from it."""
        left = int(_LEAVE_S / 0.001)
        while left and (reader := self._reader) is not None and reader[0] != get_ident():
            sleep(0.001)
            left -= 1

    def abandon(self) -> list[A]:
        """In a forked child, where the threads are not that wait; returns what had come for them."""
        requests, self._requests, self._reader = self._requests, {}, None
        return [request.answer for request in requests.values() if request.answer is not None]

    def _wait(self, request: _Request[A]) -> bool:
        """Let time pass until there may be an answer; whether anything has come."""
        claim = (get_ident(),)
        reader = self._reader
        if reader is None or reader == claim:  # the latter is what this call interrupts
            self._reader = claim
            try:
                return self._receive(request)
            finally:
                if self._reader is claim:
                    self._reader = None
        bell = request.bell
        if bell is None:  # the thread that rings looks for it after the step that it tells of: so look once more
            bell = allocate_lock()
            bell.acquire()
            request.bell = bell
            return True
        return bell.acquire(True, _TRUST_S) or self._receive(request)

    def _receive(self, request: _Request[A]) -> bool:
        packets = self._packets
        step = self._wire.receive()
        try:
            if not packets and request.answer is None:
                packets.extend(step)
        except OSError as error:
            if error.errno is None or isinstance(error, TimeoutError):  # of a signal handler
                raise
            if isinstance(error, BlockingIOError):
                return False
            raise self._wire.lost(error) from error
        self._sort()
        return True

    def _sort(self) -> None:
        """Give what has come to the threads that have asked."""
        packets, requests = self._packets, self._requests
        while True:
            if not packets:
                return
            packet = packets[0]
            number, answer = self._wire.read(packet)
            request = requests.get(number)
            if request is None:
                if packets and packets[0] is packet and number not in requests:
                    packets.popleft()
                    self._wire.undo(answer)
            elif packets and packets[0] is packet and number in requests:
                request.answer = answer
                packets.popleft()
                request.ring()

    def _pass_on(self) -> None:
        """Somebody else is to receive, if nobody does."""
        for request in self._requests.copy().values():
            if request.bell is not None and request.answer is None:
                request.ring()
                return
