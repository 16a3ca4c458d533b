"""Parts that fail on purpose: wrappers around a real transport, store or control store, driven by a seed.

With every rate at zero a wrapper passes the contract of its seam, so whatever goes wrong in a test was injected. The
same seed and the same sequence of calls inject the same faults.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ray.abc.transport import Connection, Find, Frame, Transport
from ray.clock import monotonic, sleep
from ray.testing.faulty_control import FaultyControlStore
from ray.testing.faulty_store import FaultyStore

__all__ = ["FaultyConnection", "FaultyControlStore", "FaultyStore", "FaultyTransport"]

#: How long a message that is to be overtaken is held back.
_REORDER_S = 0.005
_LOOK_S = 0.001


class FaultyTransport(Transport):
    """Loses, doubles, delays and reorders what this end sends, and cuts connections.

    Wrap both ends to disturb both directions. ``injected`` counts what was done, by kind. Finalisers and signal
    handlers must not wait inside calls of it: these keep its lock, for which the polling thread waits.
    """

    def __init__(
        self,
        inner: Transport,
        *,
        seed: int = 0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        max_delay_s: float = 0.0,
        only: Callable[[Sequence[Frame]], bool] | None = None,
    ) -> None:
        """Wrap a transport, which the wrapper owns from now on.

        Args:
            inner: a transport that keeps its contract.
            seed: decides which messages are hit.
            loss: probability that a message never arrives.
            duplicate: probability that it arrives twice.
            reorder: probability that later messages overtake it.
            max_delay_s: each message waits for up to this long, the order of a connection being kept.
            only: which messages may be hit; all by default.
        """
        self.name = inner.name
        self.inner = inner
        self.loss = loss
        self.duplicate = duplicate
        self.reorder = reorder
        self.max_delay_s = max_delay_s
        #: {"loss" | "duplicate" | "reorder" | "delay" | "cut": count}
        self.injected: Counter[str] = Counter()
        self._only = only
        self._chance = random.Random(seed)
        self._lock = threading.RLock()
        self._connections: set[FaultyConnection] = set()
        #: Messages for later, a heap: (due, number, connection, frames)
        self._later: list[tuple[float, int, FaultyConnection, Sequence[Frame]]] = []
        self._numbers = itertools.count()
        self._cut: list[FaultyConnection] = []

    def cut(self) -> None:
        """Lose every connection, as if the network had gone: both ends are told, what is under way is lost."""
        with self._lock:
            lost = list(self._connections)
            self._cut += lost
            self.injected["cut"] += len(lost)
        for connection in lost:
            connection.abort()
        self.inner.wake()

    def listen(self, hint: str) -> str:
        return self.inner.listen(hint)

    def listen_far(self, address: str) -> str:
        return self.inner.listen_far(address)

    def node_in(self, address: str) -> int:
        return self.inner.node_in(address)

    def find_with(self, find: Find) -> None:
        self.inner.find_with(find)

    def contacts(self, address: str) -> Sequence[str]:
        return self.inner.contacts(address)

    def dial(self, address: str, timeout_s: float = 5.0) -> Connection:
        return self._wrapped(self.inner.dial(address, timeout_s))

    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        with self._lock:
            if self._later:
                left = max(0.0, self._later[0][0] - monotonic())
                timeout_s = left if timeout_s is None else min(timeout_s, left)
        arrived = self.inner.poll(timeout_s)
        self.send_due()
        events: list[tuple[Connection, Sequence[Frame] | None]] = []
        with self._lock:
            events += [(connection, None) for connection in self._cut]
            self._cut.clear()
            for inner, frames in arrived:
                connection = self._wrapped(inner)
                if frames is None:
                    if connection not in self._connections:
                        continue  # cut or closed at this end
                    self._connections.discard(connection)
                events.append((connection, frames))
        return events

    def abort_reason(self, last_words: Sequence[str]) -> str:
        return self.inner.abort_reason(last_words)

    def settle(self, timeout_s: float) -> bool:
        end = monotonic() + timeout_s
        while self._later:
            if monotonic() >= end:
                return False
            sleep(_LOOK_S)
            self.send_due()
        return self.inner.settle(max(0.0, end - monotonic()))

    def wake(self) -> None:
        self.inner.wake()

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        self.inner.watch(fd, on_readable)

    def unwatch(self, fd: int) -> None:
        self.inner.unwatch(fd)

    def close(self) -> None:
        for connection in list(self._connections):
            connection.close()
        self.inner.close()

    def abandon(self) -> None:
        self.inner.abandon()

    def _wrapped(self, inner: Connection) -> FaultyConnection:
        with self._lock:
            connection = inner.context  # the wrapper is the inner connection's only user
            if connection is None:
                connection = inner.context = FaultyConnection(inner, self)
                self._connections.add(connection)
            assert isinstance(connection, FaultyConnection)
            return connection

    def forget(self, connection: FaultyConnection) -> list[Sequence[Frame]]:
        """The connection ends; returns what it still held back, in order."""
        with self._lock:
            self._connections.discard(connection)
            mine = [frames for _, _, owner, frames in sorted(self._later, key=_due) if owner is connection]
            self._later = [item for item in self._later if item[2] is not connection]
            heapq.heapify(self._later)
            return mine

    def copies(self, connection: FaultyConnection, frames: Sequence[Frame]) -> int:
        """How many copies of a message to send now; what is to be sent later is scheduled."""
        with self._lock:
            if self._only is not None and not self._only(frames):
                return 1
            # Always as many draws, so that one rate does not change which messages another one hits.
            lost, doubled, overtaken, delay = (self._chance.random() for _ in range(4))
            if lost < self.loss:
                self.injected["loss"] += 1
                return 0
            count = 1
            if doubled < self.duplicate:
                self.injected["duplicate"] += 1
                count = 2
            now = due = monotonic()
            if self.max_delay_s:
                self.injected["delay"] += 1
                due = connection.last_due = max(connection.last_due, now + delay * self.max_delay_s)
            if overtaken < self.reorder:
                self.injected["reorder"] += 1
                due += _REORDER_S
            if due <= now:
                return count
            for _ in range(count):
                heapq.heappush(self._later, (due, next(self._numbers), connection, frames))
        self.inner.wake()
        return 0

    def held_bytes(self, connection: FaultyConnection) -> int:
        """Bytes of a connection that wait to be sent."""
        with self._lock:
            held = (frames for _, _, owner, frames in self._later if owner is connection)
            return sum(memoryview(frame).nbytes for frames in held for frame in frames)

    def send_due(self) -> None:
        """Send what has waited long enough."""
        with self._lock:
            while self._later and self._later[0][0] <= monotonic():
                _, _, connection, frames = heapq.heappop(self._later)
                connection.inner.send(frames)


class FaultyConnection(Connection):
    """One end of a connection of a ``FaultyTransport``."""

    def __init__(self, inner: Connection, transport: FaultyTransport) -> None:
        self.inner = inner
        self.context: Any = None
        #: Monotonic time before which no later message may leave.
        self.last_due = 0.0
        self._transport = transport

    @property
    def closed(self) -> bool:  # type: ignore[override]
        return self.inner.closed

    @property
    def dialling(self) -> bool:  # type: ignore[override]
        return self.inner.dialling

    @property
    def failure(self) -> ConnectionError | None:  # type: ignore[override]
        return self.inner.failure

    def send(self, frames: Sequence[Frame]) -> None:
        message: tuple[Any, ...] = tuple(frames)
        if message[0] is None:
            return
        if isinstance(frames, list):
            frames[0] = None
        for _ in range(self._transport.copies(self, message)):
            self.inner.send(message)

    def close(self) -> None:
        for frames in self._transport.forget(self):
            self.inner.send(frames)
        self.inner.close()

    def abort(self) -> None:
        self._transport.forget(self)
        self.inner.abort()

    @property
    def queued_bytes(self) -> int:
        return 0 if self.closed else self.inner.queued_bytes + self._transport.held_bytes(self)


def _due(item: tuple[float, int, FaultyConnection, Sequence[Frame]]) -> tuple[float, int]:
    return item[:2]
