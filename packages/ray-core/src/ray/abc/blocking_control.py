"""The control seam for callers that may wait: command lines and tests. Not for a node manager's loop."""

from __future__ import annotations

import select
from typing import TypeVar

from ray.abc.control import ANSWER_S, ControlStore
from ray.abc.control_operations import Operation
from ray.clock import monotonic
from ray.exceptions import ControlStoreError, ControlTimeoutError

T = TypeVar("T")

#: A store has so long to say itself that the time of an operation is over.
_GRACE_S = 2.0


class BlockingControl:
    """Asks, waits and delivers, so nobody else may deliver the answers of this handle. One thread uses it."""

    def __init__(self, control: ControlStore) -> None:
        self._control = control

    def ask(self, op: Operation[T], *, timeout_s: float = ANSWER_S) -> T:
        """The answer to ``op``.

        Raises:
            ControlTimeoutError: there is none in time, whatever the store does.
            ControlStoreError: the store could not do it.
        """
        answers: list[T | ControlStoreError] = []
        end = monotonic() + timeout_s + _GRACE_S
        self._control.ask(op, answers.append, timeout_s=timeout_s)
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLIN)
        while not answers:
            left_s = end - monotonic()
            if left_s <= 0:
                raise ControlTimeoutError(type(op).__name__, op.key, timeout_s)
            poll.poll(min(left_s * 1000, 1e9))
            self._control.deliver()
        answer = answers[0]
        if isinstance(answer, ControlStoreError):
            raise answer
        return answer
