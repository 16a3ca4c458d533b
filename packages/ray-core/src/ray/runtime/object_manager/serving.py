"""Objects of this node's store, sent to the object managers of other nodes: each connection has a thread."""

from __future__ import annotations

import contextlib
import queue
import random
import socket
import threading
from collections.abc import Callable
from typing import Protocol

from ray.abc.store import SPILLING, Spilling, Store
from ray.clock import monotonic, sleep
from ray.exceptions import RayError
from ray.ids import node_of
from ray.runtime.object_manager.bringing import DONE, STUCK
from ray.runtime.object_manager.frames import (
    BUSY,
    DATA,
    FRAME_BYTES,
    HOLDERS,
    MAX_REASON_BYTES,
    REFUSED,
    WAIT,
    ChangedError,
    Request,
    limit_waits,
)
from ray.runtime.object_manager.lines import Line
from ray.runtime.object_manager.orders import Served
from ray.runtime.object_manager.plain import PlainLine
from ray.runtime.object_manager.receivers import Receivers
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
#: How long one that asks for what comes waits for this node to have more of it.
_AHEAD_S = 0.1
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


class Part(Protocol):
    """An object that is on its way here."""

    def read(self, offset: int, into: memoryview, wait_s: float) -> tuple[int, int]: ...


class Serving:
    """The listener, and who is connected."""

    def __init__(
        self,
        store: Store,
        part: Callable[[bytes], Part | None],
        served: Callable[[Served], None],
        host: str,
        ports: tuple[int, int],
        *,
        sampled: bool,
    ) -> None:
        """Listen.

        Args:
            store: of the node.
            part: finds what is on its way here.
            served: told of what was asked for.
            host: the one address at which this is to be reached.
            ports: the first and the last one that it may be; zeros: the system chooses.
            sampled: whether samples of what is sent are checked, or all of it.

        Raises:
            OSError: there is none.
        """
        self._store = store
        self._part = part
        self._served = served
        self.receivers = Receivers()
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
                    line, node = self._enter(connection)
                finally:
                    self._entering.release()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                limit_waits(connection, _IDLE_S, _STALLED_S)
                while True:
                    self._answer(line, node, self._asked(line, node))
            except OSError:  # the client has gone, or is none
                return
            finally:
                self._connections.discard(connection)

    def _enter(self, connection: socket.socket) -> tuple[Line, bytes]:
        """Let a client in; returns the line to it, and its node."""
        ticket, keys = admit(connection, self.expected.strike_off)
        node = node_of(ticket.client)
        if ticket.sealed:
            return SealedLine(connection, keys.to_client, keys.to_server), node
        return PlainLine(connection, sampled=self._sampled), node

    def close(self) -> None:
        """Let nobody in any more, and hang up on all."""
        self._is_closed = True
        for each in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _asked(self, line: Line, node: bytes) -> Request:
        try:
            return line.asked()
        except ChangedError:
            self._served(Served(b"", node, bad_frames=1))
            raise

    def _answer(self, line: Line, node: bytes, request: Request) -> None:
        admitted, others = self.receivers.enter(request.key, node, request.nbytes)
        if not admitted:
            line.send(request, request.offset, BUSY, b"".join(others))
            self._served(Served(request.key, node, busy=True))
            return
        answer = _Answer(line, request)
        try:
            if others:
                answer.say(HOLDERS, b"".join(others))
            self._send(answer)
        finally:
            self.receivers.leave(request.key, node)
            self._served(Served(request.key, node, answer.offset - request.offset))

    def _send(self, answer: _Answer) -> None:
        """What is complete, or else what is here of it, as it comes."""
        request = answer.request
        try:
            part = self._part(request.key)
            if part is not None and not self._send_part(answer, part):
                return
            found = self._read(request.key, lambda: answer.say(WAIT))
        except RayError as error:
            answer.say(REFUSED, str(error).encode()[:MAX_REASON_BYTES])
            return
        if found is None:
            answer.say(REFUSED, b"it is not in the store of its node any more")
            return
        try:
            with found:
                if len(found) != request.nbytes:
                    answer.say(REFUSED, f"it has {len(found):,} bytes".encode())
                    return
                while answer.offset < request.nbytes:
                    with found[answer.offset : answer.offset + FRAME_BYTES] as data:
                        answer.give(data)
        finally:
            self._store.release(request.key)

    def _send_part(self, answer: _Answer, part: Part) -> bool:
        """Send what is here of an object that comes; whether the store has it now, and the rest is to follow.

        Who asks is sent nothing if this node is not ahead of it: so no two wait for each other, nor more in a circle.
        """
        scratch = memoryview(bytearray(FRAME_BYTES))
        patience_s = _AHEAD_S
        while True:
            count, state = part.read(answer.offset, scratch, patience_s)
            if count:
                answer.give(scratch[:count])
            elif state == DONE:
                return True
            elif state == STUCK:
                answer.say(REFUSED, b"it does not come to this node either")
                return False
            elif answer.offset == answer.request.offset:
                answer.say(BUSY)
                return False
            else:
                answer.say(WAIT)
            patience_s = _WAIT_S

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


class _Answer:
    """To one request."""

    def __init__(self, line: Line, request: Request) -> None:
        self._line = line
        self.request = request
        #: What was sent ends there.
        self.offset = request.offset

    def say(self, kind: int, text: bytes = b"") -> None:
        """Send a frame without a part of the object."""
        self._line.send(self.request, self.offset, kind, text)

    def give(self, data: memoryview) -> None:
        """Send the next part."""
        self._line.send(self.request, self.offset, DATA, data)
        self.offset += len(data)


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
