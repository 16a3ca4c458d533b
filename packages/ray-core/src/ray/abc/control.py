"""Control seam: small state of record for the cluster — keys, lists, streams and change hints. Never on a task's path.

A handle never waits. The caller that asks goes on, and is answered in ``deliver``. The thread that watches the handle's
descriptor calls that: in a node manager its loop. So no answer comes on a thread of the store's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ray.abc.control_operations import Operation
    from ray.exceptions import ControlStoreError

T = TypeVar("T")

#: How long an answer may take where nothing else is said.
ANSWER_S = 10.0


class ControlStore(ABC):
    """A handle on the control store. Keys are text, values bytes that are never unpickled.

    Any thread may ask and subscribe. One thread delivers and closes.
    """

    name: str

    @abstractmethod
    def ask(
        self, op: Operation[T], on_answer: Callable[[T | ControlStoreError], object], *, timeout_s: float = ANSWER_S
    ) -> None:
        """Have ``op`` done, and ``on_answer`` called once with its answer, by ``deliver`` or ``close``.

        Never waits, and never calls ``on_answer`` itself. What one thread asks of a handle is done, and answered, in
        its order. What cannot be done is answered with a ControlStoreError; what has no answer after ``timeout_s``,
        with a ControlTimeoutError: it may have been done, or be under way, and does not begin any more. Nothing is
        done twice.

        Raises:
            ControlUnavailableError: this handle is closed.
        """

    @abstractmethod
    def subscribe(self, prefix: str, on_change: Callable[[str], object]) -> Callable[[], None]:
        """Have ``deliver`` call ``on_change(key)`` after changes under ``prefix``; returns the function that ends it.

        Hints may be lost or merged: ask for the key to know the truth. That the time of a key is over need not be
        hinted.

        Raises:
            ControlUnavailableError: this handle is closed.
        """

    @abstractmethod
    def fileno(self) -> int:
        """A descriptor that is readable while there is something to deliver; the handle's own, and always the same."""

    @abstractmethod
    def deliver(self) -> None:
        """Call every callback that an answer or a hint has come for, and return; what they ask is delivered later.

        Never waits. What a callback raises is logged, and disturbs nobody. Does nothing once closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Answer what is unanswered with ControlUnavailableError, and disconnect. Idempotent.

        It does not wait for a store that says nothing. Nobody is called once it has returned.
        """


class ControlServer(ABC):
    """What the head owns for a control store; ``address`` goes to ``ray_open_control``."""

    address: str

    @abstractmethod
    def close(self) -> None:
        """Stop and clean up. Idempotent."""
