"""Objects of this node's store, sent to the object managers of other nodes: each connection has a thread."""

from __future__ import annotations

import contextlib
import queue
import random
import socket
import threading
from collections.abc import Callable

from ray.abc.store import SPILLING, Spilling, Store
from ray.clock import monotonic, sleep
from ray.exceptions import RayError
from ray.runtime.object_manager.frames import (
    DATA,
    FRAME_BYTES,
    MAX_REASON_BYTES,
    REFUSED,
    WAIT,
    Request,
    limit_waits,
)
from ray.runtime.object_manager.lines import Line
from ray.runtime.object_manager.plain import PlainLine
from ray.runtime.object_manager.sealed import SealedLine
from ray.runtime.object_manager.tickets import Ticket, admit
from ray.threads import UnawaitedThread

#: A connection whose client does not show a ticket within this time is closed.
ENTER_S = 1.0
#: So many may be about to do so at a time.
MAX_ENTERING = 64
#: A ticket that nobody comes with is forgotten.
TICKET_S = 30.0
#: The orders of the node manager may be read a moment later than what its client sends.
_EXPECT_S = 0.5
#: A connection that nothing is asked of, or that takes nothing, is closed.
_IDLE_S, _STALLED_S = 60.0, 30.0
#: How often a client is told that an object is still being read.
_WAIT_S = 1.0
_BACKLOG = 128
#: Where no connection can be taken now.
_PAUSE_S = 0.01


class Expected:
    """Tickets that somebody will come with."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        #: {id: (ticket, since when)}
        self._tickets: dict[bytes, tuple[Ticket, float]] = {}

    def add(self, ticket: Ticket) -> None:
        """Somebody will come with this one."""
        with self._changed:
            now = monotonic()
            for id in [id for id, (_, since) in self._tickets.items() if now - since > TICKET_S]:
                del self._tickets[id]
            self._tickets[ticket.id] = ticket, now
            self._changed.notify_all()

    def strike_off(self, id: bytes) -> Ticket | None:
        """Take a ticket, for which it waits a moment."""
        with self._changed:
            self._changed.wait_for(lambda: id in self._tickets, _EXPECT_S)
            ticket, _ = self._tickets.pop(id, (None, 0.0))
            return ticket


class Serving:
    """The listener, and who is connected."""

    def __init__(self, store: Store, host: str, ports: tuple[int, int], *, sampled: bool) -> None:
        """Listen.

        Args:
            store: of the node.
            host: the one address at which this is to be reached.
            ports: the first and the last one that it may be; zeros: the system chooses.
            sampled: whether samples of what is sent are checked, or all of it.

        Raises:
            OSError: there is none.
        """
        self._store = store
        self._sampled = sampled
        self._spilling = store if isinstance(store, Spilling) and SPILLING in store.capabilities else None
        self.expected = Expected()
        self._listener = _listen(host, ports)
        self._entering = threading.BoundedSemaphore(MAX_ENTERING)
        self.port: int = self._listener.getsockname()[1]
        self._connections: set[socket.socket] = set()
        self._is_closed = False

    def begin(self) -> None:
        """Let clients in, on threads."""
        UnawaitedThread(target=self._accept, name="ray-data", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # no descriptor is left, or the client has gone
                if self._is_closed:
                    return
                sleep(_PAUSE_S)
                continue
            if not self._entering.acquire(blocking=False):
                connection.close()
                continue
            try:
                UnawaitedThread(target=self._serve, args=(connection,), name="ray-data", daemon=True).start()
            except RuntimeError:  # there is no room for one more thread
                self._entering.release()
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.closing(connection):
            self._connections.add(connection)
            try:
                try:
                    limit_waits(connection, ENTER_S, ENTER_S)
                    line = self._line(connection)
                finally:
                    self._entering.release()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                limit_waits(connection, _IDLE_S, _STALLED_S)
                while True:
                    self._answer(line, line.asked())
            except OSError:  # the client has gone, or is none
                return
            finally:
                self._connections.discard(connection)

    def _line(self, connection: socket.socket) -> Line:
        ticket, keys = admit(connection, self.expected.strike_off)
        if ticket.sealed:
            return SealedLine(connection, keys.to_client, keys.to_server)
        return PlainLine(connection, sampled=self._sampled)

    def close(self) -> None:
        """Let nobody in any more, and hang up on all."""
        self._is_closed = True
        for each in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _answer(self, line: Line, request: Request) -> None:
        try:
            found = self._read(request.key, lambda: line.send(request, request.offset, WAIT, b""))
        except RayError as error:
            line.send(request, request.offset, REFUSED, str(error).encode()[:MAX_REASON_BYTES])
            return
        if found is None:
            line.send(request, request.offset, REFUSED, b"it is not in the store of its node any more")
            return
        try:
            with found:
                if len(found) != request.nbytes:
                    line.send(request, request.offset, REFUSED, f"it has {len(found):,} bytes".encode())
                    return
                for offset in range(request.offset, request.nbytes, FRAME_BYTES):
                    with found[offset : offset + FRAME_BYTES] as part:
                        line.send(request, offset, DATA, part)
        finally:
            self._store.release(request.key)

    def _read(self, key: bytes, still: Callable[[], None]) -> memoryview | None:
        """An object's memory; ``still`` is called now and then while that takes its time."""
        if self._spilling is None:
            return self._store.get(key)
        try:
            return self._spilling.get_at_once(key)
        except BlockingIOError:
            pass
        answers: queue.SimpleQueue[memoryview | RayError | None] = queue.SimpleQueue()
        UnawaitedThread(target=self._restore, args=(key, answers), name="ray-data", daemon=True).start()
        while True:
            try:
                answer = answers.get(timeout=_WAIT_S)
            except queue.Empty:
                still()
                continue
            if isinstance(answer, RayError):
                raise answer
            return answer

    def _restore(self, key: bytes, answers: queue.SimpleQueue[memoryview | RayError | None]) -> None:
        try:
            answers.put(self._store.get(key))
        except RayError as error:
            answers.put(error)


def _listen(host: str, ports: tuple[int, int]) -> socket.socket:
    first, last = ports
    choices = list(range(first, last + 1)) if first else [0]
    random.shuffle(choices)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in choices:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            if port == choices[-1]:
                raise
        else:
            return listener
    raise OSError(f"no port between {first} and {last}")
