"""The control store inside the head's node manager: dictionaries, and no other process.

Handles can be opened only in the process of the server; everybody else asks the node manager.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from ray.abc.answer_box import AnswerBox, Subscription
from ray.abc.control import ANSWER_S, ControlServer, ControlStore
from ray.abc.control_operations import Commit, Operation
from ray.builtin.embedded_state import EmbeddedState
from ray.clock import monotonic
from ray.exceptions import ControlStoreError, ControlUnavailableError, RayConnectionError

T = TypeVar("T")

SCHEME = "embedded:"

_numbers = itertools.count(1)
#: {address: server} of this process
_servers: weakref.WeakValueDictionary[str, EmbeddedControlServer] = weakref.WeakValueDictionary()


class EmbeddedControlServer(ControlServer):
    """Owns the state; lives as long as the head's node manager."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        #: Held for the length of one operation in memory; nothing is called meanwhile.
        self._lock = threading.Lock()
        self._state = EmbeddedState(clock)
        #: {subscription: where its hints go}
        self._subscribers: dict[Subscription, AnswerBox] = {}
        self._closed = False
        self.address = f"{SCHEME}{next(_numbers)}"
        _servers[self.address] = self

    def do(self, op: Operation[Any]) -> Any:
        """Do it at once, and hint it; the answer may be a ControlStoreError."""
        with self._lock:
            if self._closed:
                return ControlUnavailableError(type(op).__name__, op.key, "the node that had it has ended")
            answer, changed = self._state.do(op)
            interested = list(self._subscribers.items()) if changed else []
        for key in op.changed if isinstance(op, Commit) else [op.key]:
            for subscription, box in interested:
                if key.startswith(subscription.prefix):
                    box.hint(subscription, key)
        return answer

    def subscribe(self, subscription: Subscription, box: AnswerBox) -> None:
        """Hint changes to ``box`` from now on."""
        with self._lock:
            self._subscribers[subscription] = box

    def unsubscribe(self, subscription: Subscription) -> None:
        """Do not, any more. Idempotent."""
        subscription.ended = True
        with self._lock:
            self._subscribers.pop(subscription, None)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._subscribers.clear()
        _servers.pop(self.address, None)


class EmbeddedControlStore(ControlStore):
    """A handle. What is asked is done at once, and its answer is there to be delivered when ``ask`` returns."""

    name = "embedded"

    def __init__(self, address: str) -> None:
        """Open a handle on the server of this process.

        Raises:
            RayConnectionError: no server of this process has that address.
        """
        server = _servers.get(address)
        if server is None:
            raise RayConnectionError(f"no control store {address!r} in this process: ask the head's node manager")
        self._server = server
        self._box = AnswerBox()
        self._subscriptions: set[Subscription] = set()

    def ask(
        self, op: Operation[T], on_answer: Callable[[T | ControlStoreError], object], *, timeout_s: float = ANSWER_S
    ) -> None:
        number = self._box.owe(op, on_answer, timeout_s)
        self._box.settle(number, self._server.do(op))

    def subscribe(self, prefix: str, on_change: Callable[[str], object]) -> Callable[[], None]:
        self._box.check("subscribe", prefix)
        subscription = Subscription(prefix, on_change)
        self._subscriptions.add(subscription)
        self._server.subscribe(subscription, self._box)

        def unsubscribe() -> None:
            self._server.unsubscribe(subscription)
            self._subscriptions.discard(subscription)

        return unsubscribe

    def fileno(self) -> int:
        return self._box.fileno()

    def deliver(self) -> None:
        self._box.deliver()

    def close(self) -> None:
        while self._subscriptions:
            self._server.unsubscribe(self._subscriptions.pop())
        self._box.close()
