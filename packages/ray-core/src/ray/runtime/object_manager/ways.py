"""Data connections to other nodes, as a client: those that nobody uses, and new ones by tickets."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable

from ray.clock import monotonic
from ray.runtime.object_manager.frames import limit_waits
from ray.runtime.object_manager.lines import Line
from ray.runtime.object_manager.orders import Way
from ray.runtime.object_manager.plain import PlainLine
from ray.runtime.object_manager.sealed import SealedLine
from ray.runtime.object_manager.tickets import Ticket, enter

#: A connection without a byte for so long is given up.
PROGRESS_S = 3.0
#: How long a ticket, or the other end's listener, may keep one waiting.
_TICKET_S, _CONNECT_S = 3.0, 2.0
#: Unused ones are closed after this time, before the other end does so.
_IDLE_S = 30.0


class Ways:
    """Safe from any thread."""

    def __init__(self, ask: Callable[[bytes], None]) -> None:
        """``ask``: has the node manager get a ticket for a node, which ``found`` is told of."""
        self._ask = ask
        self._changed = threading.Condition()
        #: {node: (connection, since when nobody uses it)}
        self._idle: dict[bytes, deque[tuple[Line, float]]] = {}
        #: {node: threads that wait for an answer}
        self._waiting: Counter[bytes] = Counter()
        #: {node: answers that nobody has taken}, not more than there are threads that wait.
        self._found: dict[bytes, deque[Way]] = {}
        #: Dead nodes.
        self._gone: set[bytes] = set()

    def idle(self, node: bytes) -> Line | None:
        """One that nobody uses, if there is one; its other end may have closed it."""
        limit = monotonic() - _IDLE_S
        with self._changed:
            unused = self._idle.get(node)
            while unused:
                connection, since = unused.pop()
                if since > limit:
                    return connection
                connection.close()
        return None

    def ask(self, node: bytes) -> Way:
        """Where a new one leads to, and the ticket for it.

        Raises:
            OSError: it cannot be had now.
        """
        with self._changed:
            self._waiting[node] += 1
        try:
            self._ask(node)
            way = self._await(node)
        finally:
            with self._changed:
                self._stop_waiting(node)
        if way.reason:
            raise ConnectionError(way.reason)
        return way

    def open(self, way: Way) -> Line:
        """A new one.

        Raises:
            OSError: it cannot be had now.
        """
        connection = socket.create_connection((way.host, way.port), _CONNECT_S)
        try:
            connection.settimeout(None)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            limit_waits(connection, PROGRESS_S, PROGRESS_S)
            keys = enter(connection, Ticket(way.id, way.secret, way.client, way.server, way.sealed))
            if way.sealed:
                return SealedLine(connection, keys.to_server, keys.to_client)
        except BaseException:
            connection.close()
            raise
        return PlainLine(connection)

    def _await(self, node: bytes) -> Way:
        with self._changed:
            self._changed.wait_for(lambda: self._found.get(node) or node in self._gone, _TICKET_S)
            if not self._found.get(node):
                raise ConnectionError("its node manager has given no ticket")
            return self._found[node].popleft()

    def _stop_waiting(self, node: bytes) -> None:
        self._waiting[node] -= 1
        if not self._waiting[node]:
            del self._waiting[node]
            self._found.pop(node, None)

    def found(self, way: Way) -> None:
        """The answer of the node manager; one that comes after all have ceased to wait is dropped."""
        with self._changed:
            found = self._found.get(way.node, ())
            if len(found) < self._waiting[way.node]:
                self._found.setdefault(way.node, deque()).append(way)
                self._changed.notify_all()

    def node_gone(self, node: bytes) -> None:
        """A node is dead: nobody waits for a ticket from there, or uses what leads there."""
        with self._changed:
            self._gone.add(node)
            self._changed.notify_all()
        self.close_idle(node)

    def give(self, node: bytes, connection: Line) -> None:
        """Nobody uses it any more; it is as it was when it was new."""
        with self._changed:
            if node not in self._gone:
                self._idle.setdefault(node, deque()).append((connection, monotonic()))
                return
        connection.close()

    def close(self) -> None:
        """Close those that nobody uses."""
        for node in list(self._idle):
            self.close_idle(node)

    def close_idle(self, node: bytes) -> None:
        """Those that nobody uses: one of them was found closed."""
        with self._changed:
            unused = self._idle.pop(node, deque())
        for connection, _ in unused:
            with contextlib.suppress(OSError):
                connection.close()
