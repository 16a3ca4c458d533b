"""A process's connection to its node manager: messages, questions, and a heartbeat."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from ray.abc.transport import Connection, Found
from ray.exceptions import ControlUnavailableError, NodeDiedError, RayConnectionError, RaySystemError
from ray.headroom import SENDING, check
from ray.messages import finding, node
from ray.runtime.process.encoding import encode
from ray.runtime.process.waiting import Waiter

#: Beats without any message from it after which the node manager is taken for dead. Beats are counted, not timed: a
#: process that did not run itself misses none.
MISSED_BEATS = 8
BEAT_S = 0.5
#: Why a process has no node manager, as far as it can tell.
NODE_DIED = "the node manager process has died"
DESCRIPTORS_CLOSED = "the program has closed the descriptors of its session"
#: Of a process that has no objects, so waits for nothing.
IDLE_BEAT_S = 1.0


class NodeLink:
    """Safe from any thread."""

    #: Set by ``connect``, before anything is sent.
    connection: Connection

    def __init__(self, wait: Callable[[Waiter, float | None], bool]) -> None:
        self.address = ""
        self._wait = wait
        self._numbers = itertools.count(1).__next__
        #: {request: what to call with the answer}
        self._requests: dict[int, Callable[[node.Answer], None]] = {}
        self._unanswered = 0
        #: Bytes that it had not taken at the last beat.
        self._queued = 0
        #: Why there is no node manager any more, or None.
        self.dead: str | None = None
        #: The session was shut down.
        self._ended = False

    def connect(self, connection: Connection, address: str) -> None:
        """``connection`` leads to the node manager, which is at ``address``."""
        self.connection, self.address = connection, address
        connection.context = self

    def send(self, message: Any) -> None:
        """Queue a message; dropped when the node manager is gone.

        Raises:
            UnpicklableError: it holds what cannot be encoded, and was not sent.
        """
        self.connection.send((encode(message),))

    def request(self, make: Callable[[int], Any], timeout_s: float | None = 10.0) -> node.Answer:
        """Send ``make(number)`` and wait for its answer.

        Raises:
            NodeDiedError: there is, or comes to be, no node manager to answer.
            RayConnectionError: as the session was shut down.
            UnpicklableError: as ``send``.
            RaySystemError: it lives and does not answer in time; without a time, it is waited for as long as it lives.
        """
        check(SENDING)
        number = self._numbers()
        waiter = Waiter(1)
        answers: list[node.Answer] = []

        def on_answer(answer: node.Answer) -> None:
            answers.append(answer)
            waiter.count()

        self._requests[number] = on_answer
        try:
            self._check()
            self.send(make(number))
            if not self._wait(waiter, timeout_s):
                raise RaySystemError(f"the node manager did not answer within {timeout_s:g} s")
        finally:
            self._requests.pop(number, None)
        answer = answers[0]
        if not answer.ok:
            self._check()
        return answer

    def request_later(self, make: Callable[[int], Any], on_answer: Callable[[node.Answer], None]) -> None:
        """Send ``make(number)``; ``on_answer`` gets the answer, on the thread that polls.

        Where there is, or comes to be, no node manager to answer, it gets one that is not ``ok``.
        """
        number = self._numbers()
        self._requests[number] = on_answer
        self.send(make(number))
        if self._ended or self.dead is not None:  # looked at last: its end ends every question that it finds
            self.answered(node.Answer(number, False, error=self.dead or "the session was shut down"))

    def find(self, node_number: int, address: str, found: Found) -> None:
        """Ask where a process of another node can be reached; see ``Transport.find_with``."""
        self.request_later(
            lambda request: finding.Where(request, node_number, address),
            lambda answer: found(answer.data.decode(), answer.error),
        )

    def _check(self) -> None:
        if self._ended:
            raise RayConnectionError("This session has ended. You can start another one with 'ray.init()'.")
        if self.dead is not None:
            raise NodeDiedError(self.address, self.dead)

    def ask(self, what: str, data: Any = None, timeout_s: float | None = 10.0) -> Any:
        """The decoded answer to a question.

        Raises:
            NodeDiedError: see ``request``.
            ControlUnavailableError: the control store does not know, or does not answer.
        """
        payload = msgspec.msgpack.encode(data)
        answer = self.request(lambda number: node.Question(number, what, payload), timeout_s)
        if answer.unavailable:
            raise ControlUnavailableError(reason=answer.error)
        if not answer.ok:
            raise ValueError(answer.error)
        return msgspec.msgpack.decode(answer.data)

    def answered(self, answer: node.Answer) -> None:
        """An answer arrived; from the reader thread."""
        waiting = self._requests.pop(answer.request, None)
        if waiting is not None:
            waiting(answer)

    def beat(self) -> bool:
        """Ping; False when too many pings were not answered."""
        queued = self.connection.queued_bytes
        if queued < self._queued:  # it takes what it is sent, and answers behind that
            self._unanswered = 0
        self._queued = queued
        if self._unanswered >= MISSED_BEATS:
            return False
        self._unanswered += 1
        self.send(node.Ping(self._unanswered))
        return True

    def heard(self) -> None:
        """A message of it has come: it lives, however late the answers to pings are."""
        self._unanswered = 0

    def lost(self, reason: str) -> None:
        """There is no node manager any more: every question ends."""
        self.dead = reason
        self._give_up(reason)

    def end(self) -> None:
        """The session was shut down: every question ends, and nobody has died."""
        self._ended = True
        self._give_up("the session was shut down")

    def _give_up(self, reason: str) -> None:
        for number in list(self._requests):
            self.answered(node.Answer(number, False, error=reason))
