"""A handle on the control store in a Redis server.

``ask`` puts operations into a queue. One thread takes them out, and alone uses redis-py; it waits for the server, so
that nobody else does. Both it and the thread of the deadlines start with the first thing that is asked: a node manager
opens its handle before it forks, and what it forks is to have neither threads nor that library.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from _thread import RLock
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from ray.abc.answer_box import AnswerBox, Subscription
from ray.abc.control import ANSWER_S, ControlStore
from ray.abc.control_operations import Operation
from ray.builtin.redis_control.access import Access
from ray.builtin.redis_control.deadlines import Deadlines
from ray.builtin.redis_control.doing import Doing
from ray.builtin.redis_control.failures import LinkLostError, RefusedError
from ray.builtin.redis_control.hints import Hints
from ray.builtin.redis_control.keys import KeySpace
from ray.builtin.redis_control.link import Link
from ray.builtin.redis_control.pauses import Pauses
from ray.builtin.redis_control.wire import load_library
from ray.clock import monotonic
from ray.exceptions import ControlStoreError, ControlUnavailableError
from ray.threads import UnawaitedThread

T = TypeVar("T")

CLIENT_NAME = "ray-control"
#: ``close`` waits so long for the thread, which ends by itself otherwise.
_JOIN_S = 1.5
_log = logging.getLogger("ray")


class RedisControlStore(ControlStore):
    """One handle, with up to two connections: for operations, and for hints."""

    name = "redis"

    def __init__(self, access: Access) -> None:
        self._access = access
        keys = KeySpace(access.name, access.session)
        self._box = AnswerBox(trouble=self._trouble)
        self._doing = Doing(keys, access.where, self._box.owes)
        self._hints = Hints(keys, self._box, self._connect)
        self._deadlines = Deadlines(self._box)
        #: What the thread is to do, oldest first.
        self._asked: deque[tuple[int, Operation[Any]]] = deque()
        self._link: Link | None = None
        self._pauses = Pauses()
        #: Why there is no connection, and since when; ("", 0.0) while there is one.
        self._cause: tuple[str, float] = "", 0.0
        self._lock = RLock()
        self._has_begun = self._has_thread = self._ended = False
        self._reading, self._writing = socket.socketpair()
        for end in (self._reading, self._writing):
            end.setblocking(False)
        self._thread = UnawaitedThread(target=self._serve, name="ray-control-redis", daemon=True)

    # --- any thread -------------------------------------------------------------------------------------------------

    def ask(
        self, op: Operation[T], on_answer: Callable[[T | ControlStoreError], object], *, timeout_s: float = ANSWER_S
    ) -> None:
        number = self._box.owe(op, on_answer, timeout_s)
        self._asked.append((number, op))
        if not self._has_begun:
            self._begin()
        self._deadlines.add(monotonic() + timeout_s)
        self._wake()

    def subscribe(self, prefix: str, on_change: Callable[[str], object]) -> Callable[[], None]:
        self._box.check("subscribe", prefix)
        subscription = Subscription(prefix, on_change)
        self._hints.add(subscription)
        if not self._has_begun:
            self._begin()
        self._wake()

        def unsubscribe() -> None:
            self._hints.remove(subscription)
            self._wake()

        return unsubscribe

    def _begin(self) -> None:
        with self._lock:
            if self._has_begun or self._ended:
                return
            self._has_begun = True
            try:
                self._deadlines.start()
                self._thread.start()
                self._has_thread = True
            except RuntimeError as error:
                self._give_up(str(error))

    def _give_up(self, reason: str) -> None:
        while self._asked:
            number, op = self._asked.popleft()
            self._box.settle(number, ControlUnavailableError(type(op).__name__, op.key, reason))

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is full, and wakes as well; or the thread has ended
            self._writing.send(b"!")

    def _trouble(self) -> str:
        cause, since = self._cause
        if not cause:
            return f"it is {self._access.where}"
        return f"{self._access.where} has not been there for {monotonic() - since:.1f} s: {cause}"

    # --- the thread that watches ------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._box.fileno()

    def deliver(self) -> None:
        self._box.deliver()

    def close(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
        self._wake()
        for held in (self._link, self._hints):
            if held is not None:
                held.cut()
        self._deadlines.close()
        if self._has_thread:
            self._thread.join(_JOIN_S)
        else:
            self._let_go()
        self._box.close()

    def _let_go(self) -> None:
        for end in (self._reading, self._writing):
            end.close()

    # --- its own thread ---------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while not self._ended:
                self._wait(self._turn())
        finally:
            self._hints.close()
            if self._link is not None:
                self._link.close()
            self._let_go()

    def _turn(self) -> float:
        """Do what there is to do; returns the pause before it is tried again, 0 if nothing has failed."""
        try:
            self._work()
            self._hints.tend()
        except LinkLostError as error:
            self._lost(str(error))
            return self._pauses.failed()
        except RefusedError as error:  # of the connection; those who asked are told
            self._lost(str(error))
            self._refuse(error)
            return self._pauses.failed()
        except Exception as error:
            _log.exception("the control store's client failed")
            self._lost(repr(error))
            self._give_up(f"its client failed: {error!r}")
            return self._pauses.failed()
        return 0.0

    def _work(self) -> None:
        while self._asked and not self._ended:
            number, op = self._asked[0]
            if self._box.owes(number):
                if self._link is None:
                    self._link = self._connect()
                answer = self._doing.do(self._link, number, op)
                self._box.settle(number, answer)
            self._asked.popleft()

    def _connect(self) -> Link:
        load_library()
        link = Link(self._access, CLIENT_NAME)
        self._cause = "", 0.0
        self._pauses.worked()
        return link

    def _lost(self, cause: str) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
        known, since = self._cause
        self._cause = cause, since if known else monotonic()

    def _refuse(self, error: RefusedError) -> None:
        for _ in range(len(self._asked)):
            number, op = self._asked.popleft()
            self._box.settle(number, error.answer(op))

    def _wait(self, pause_s: float) -> None:
        """Until there is something to do; through the whole of a pause, unless the handle is closed."""
        end = monotonic() + pause_s
        while not self._ended:
            poll = select.poll()
            poll.register(self._reading, select.POLLIN)
            hints = self._hints.fileno()
            if hints >= 0 and not pause_s:
                poll.register(hints, select.POLLIN)
            if pause_s:
                left_s: float | None = end - monotonic()
            else:
                left_s = 0.0 if self._asked else self._hints.next_s()
            if left_s is not None and left_s <= 0:
                return
            poll.poll(None if left_s is None else left_s * 1000 + 1)
            with contextlib.suppress(BlockingIOError):
                self._reading.recv(4096)
            if not pause_s:
                return
