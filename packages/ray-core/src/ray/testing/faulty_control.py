"""A control store that is far away, and fails on purpose: see ``ray.testing.faults``."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ray.abc.answer_box import AnswerBox, Subscription
from ray.abc.blocking_control import BlockingControl
from ray.abc.control import ANSWER_S, ControlStore
from ray.abc.control_operations import Operation
from ray.clock import sleep
from ray.exceptions import ControlStoreError, ControlUnavailableError

T = TypeVar("T")
_JOIN_S = 5.0


class FaultyControlStore(ControlStore):
    """A handle whose thread alone uses the store: slow, cut off now and then, or silent for as long as one likes.

    ``injected`` counts what was done, by kind.
    """

    def __init__(self, inner: ControlStore, *, seed: int = 0, cut: float = 0.0, max_delay_s: float = 0.0) -> None:
        """Wrap a handle, which the wrapper owns from now on.

        Args:
            inner: a handle that keeps its contract.
            seed: decides which operations are hit.
            cut: probability that the connection is lost, before or after the store has done what it was asked for.
            max_delay_s: each answer takes up to this much longer.
        """
        self.name = inner.name
        self.cut = cut
        self.max_delay_s = max_delay_s
        #: {"cut" | "delay": count}
        self.injected: Counter[str] = Counter()
        self._inner = inner
        self._chance = random.Random(seed)
        self._box = AnswerBox()
        #: What the thread is to do, oldest first.
        self._asked: deque[tuple[int, Operation[Any]]] = deque()
        self._subscriptions: dict[Subscription, Callable[[], None]] = {}
        self._is_silent = self._ended = False
        self._reading, self._writing = socket.socketpair()
        for end in (self._reading, self._writing):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._serve, name="faulty-control", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Meanwhile the store says nothing, and does nothing."""
        self._is_silent = True
        try:
            yield
        finally:
            self._is_silent = False
            self._wake()

    def ask(
        self, op: Operation[T], on_answer: Callable[[T | ControlStoreError], object], *, timeout_s: float = ANSWER_S
    ) -> None:
        self._asked.append((self._box.owe(op, on_answer, timeout_s), op))
        self._wake()

    def subscribe(self, prefix: str, on_change: Callable[[str], object]) -> Callable[[], None]:
        self._box.check("subscribe", prefix)
        subscription = Subscription(prefix, on_change)
        self._subscriptions[subscription] = self._inner.subscribe(prefix, lambda key: self._box.hint(subscription, key))

        def unsubscribe() -> None:
            subscription.ended = True
            self._subscriptions.pop(subscription, lambda: None)()

        return unsubscribe

    def fileno(self) -> int:
        return self._box.fileno()

    def deliver(self) -> None:
        self._box.deliver()

    def close(self) -> None:
        if self._box.closed:
            return
        self._ended = True
        self._wake()
        self._thread.join(_JOIN_S)
        self._box.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is full, and wakes as well; or the thread has ended
            self._writing.send(b"!")

    # --- its own thread ---------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        poll.register(self._inner.fileno(), select.POLLIN)
        try:
            while not self._ended:
                left_s = self._box.expire()
                poll.poll(None if left_s is None else left_s * 1000 + 1)
                with contextlib.suppress(BlockingIOError):
                    self._reading.recv(4096)
                self._inner.deliver()  # hints
                while self._asked and not (self._is_silent or self._ended):
                    self._do(*self._asked.popleft())
        finally:
            self._inner.close()
            for end in (self._reading, self._writing):
                end.close()

    def _do(self, number: int, op: Operation[Any]) -> None:
        if self.max_delay_s:
            self.injected["delay"] += 1
            sleep(self._chance.uniform(0.0, self.max_delay_s))
            self._box.expire()
        if not self._box.owes(number):
            return
        is_cut, is_done = self._chance.random() < self.cut, self._chance.random() < 0.5
        answer: Any = None
        if is_done or not is_cut:
            try:
                answer = BlockingControl(self._inner).ask(op)
            except ControlStoreError as error:
                answer = error
        if is_cut:
            self.injected["cut"] += 1
            answer = ControlUnavailableError(type(op).__name__, op.key, "the connection was lost meanwhile")
        self._box.settle(number, answer)
