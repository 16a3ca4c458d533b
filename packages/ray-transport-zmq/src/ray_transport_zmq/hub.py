"""One router socket and the connections that run over it. All methods run under the transport's lock; none blocks.

A transport has two: one that listens and one that connects. ZeroMQ tells by a monitor which of its descriptors it opens
and closes; the first message of a peer tells its descriptor. As one thread of ZeroMQ does all of this, a descriptor
that is reported closed has delivered everything that will ever come.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import struct
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import zmq
from zmq.backend import Socket as _Base

from ray.abc.strangers import FIRST_MESSAGE_BYTES, Strangers
from ray.abc.transport import Connection, Frame
from ray.exceptions import RemoteProtocolError
from ray_transport_zmq import sockets, wire
from ray_transport_zmq.connection import ZmqConnection
from ray_transport_zmq.descriptors import hang_up, inode
from ray_transport_zmq.incoming import Incoming
from ray_transport_zmq.refusals import Refusals

#: What ``poll`` returns.
Events: TypeAlias = "deque[tuple[Connection, Sequence[Frame] | None]]"

#: Units taken before others get their turn.
_BATCH = 512
#: Larger pieces are lent to ZeroMQ instead of copied; below, handing back costs more than the copy.
_LEND_BYTES = 512 * 1024
_EVENT = struct.Struct("<HI")
_FAILED: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the handshake failed: the peer does not speak ZeroMQ as this end does",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "the handshake failed: only one end encrypts, or the keys differ",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the peer does not allow the key of this process",
}

#: The same, as the end that listens tells it. A peer that dies in the handshake is not refused.
_REFUSED: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "the peer does not encrypt, or does not know the key of this end",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the key of the peer is not among those that are allowed",
}

_get = _Base.get
_receive = _Base.recv
_send = _Base.send
_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)
_NOW, _NOW_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_numbers = itertools.count(1)


class Hub:
    """``accepts`` tells the one that listens from the one that connects."""

    def __init__(
        self,
        context: sockets.Context,
        socket: zmq.Socket[bytes],
        events: Events,
        make: Callable[[Hub], ZmqConnection],
        *,
        accepts: bool,
    ) -> None:
        self._socket = socket
        self._monitor = sockets.monitor(context, socket)
        self._events = events
        self._incoming = Incoming(socket)
        self._make = make
        self._accepts = accepts
        #: The socket was used since ``pump`` last saw it empty: its descriptor may be silent in spite of messages.
        self.touched = False
        #: Units that were handed to ZeroMQ.
        self.handed = 0
        #: {routing id: connection}, closed ones too until ZeroMQ has let go of them
        self._links: dict[bytes, ZmqConnection] = {}
        #: {descriptor: connection}
        self._by_fd: dict[int, ZmqConnection] = {}
        #: {descriptor: inode}, of the sockets that ZeroMQ has open here
        self._open: dict[int, int] = {}
        #: {address: open connections}; ZeroMQ can end only all connections to one address together.
        self._users: Counter[str] = Counter()
        #: Connections whose descriptor is closed; reported once everything they brought has been taken.
        self._gone: list[ZmqConnection] = []
        #: Descriptors of peers that have said nothing yet, or are to leave.
        self.strangers: Strangers[int] = Strangers()
        self._refusals = Refusals()
        #: The one being made, if any.
        self._pending: ZmqConnection | None = None
        self.fds: tuple[int, int] = (self._socket.FD, self._monitor.FD)
        self.read_monitor()  # ZeroMQ makes a descriptor readable only once somebody has found nothing to read

    @property
    def connections(self) -> list[ZmqConnection]:
        """Those that are open."""
        return [connection for connection in self._links.values() if not connection.closed]

    @property
    def peer_fds(self) -> list[int]:
        """ZeroMQ's descriptors to its peers."""
        return list(self._by_fd)

    def bind(self, endpoint: str) -> str:
        """Listen; returns the address with what the system has chosen.

        Raises:
            OSError: the system refuses.
        """
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise OSError(error.errno, str(error), endpoint) from None
        address = self._socket.get(zmq.LAST_ENDPOINT)
        assert isinstance(address, bytes)
        return address.rstrip(b"\0").decode()

    # --- connecting -----------------------------------------------------------------------------------------------

    def begin(self, connection: ZmqConnection, address: str) -> None:
        """Start to connect; ``connection`` will be ``ready`` or have a ``failure``. One at a time."""
        # Ids are never used twice: ZeroMQ ends the process if it still knows one.
        connection.id = b"out-%d" % next(_numbers)
        connection.address = address
        self._links[connection.id] = connection
        self._users[address] += 1
        self._socket.set(zmq.CONNECT_ROUTING_ID, connection.id)
        self._pending = connection
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            connection.failure = str(error)

    def finish(self, connection: ZmqConnection) -> None:
        """The attempt is over, in one way or the other."""
        self._pending = None
        if not connection.ready:
            connection.closed = True
            self._let_go(connection)

    # --- what ZeroMQ tells ----------------------------------------------------------------------------------------

    def read_monitor(self) -> bool:
        """Take what the monitor tells; returns whether the attempt to connect is decided."""
        with contextlib.suppress(zmq.Again):
            while True:
                note: list[bytes] = []
                note.extend(map(_receive, (self._monitor, self._monitor), (_NOW, _NOW)))
                data, address = note
                event, value = _EVENT.unpack(data)
                self._tell(event, value, address.decode())
        pending = self._pending
        return pending is not None and (pending.ready or bool(pending.failure))

    def _tell(self, event: int, value: int, address: str) -> None:
        pending = self._pending if self._pending is not None and self._pending.address == address else None
        if event in (zmq.EVENT_LISTENING, zmq.EVENT_ACCEPTED, zmq.EVENT_CONNECTED):
            self._open[value] = inode(value)
            if event == zmq.EVENT_ACCEPTED:
                self.strangers.arrived(value)
            if event == zmq.EVENT_CONNECTED and pending is not None:
                pending.fd = value
                self._by_fd[value] = pending
        elif event == zmq.EVENT_DISCONNECTED:
            self._open.pop(value, None)
            self.strangers.left(value)
            connection = self._by_fd.pop(value, None)
            if connection is not None and connection is pending:
                pending.failure = pending.failure or "the peer has closed the connection"
            elif connection is not None:
                self._gone.append(connection)
                self.touched = True
        elif pending is None:
            if self._accepts and event in _REFUSED:
                self._refusals.note(address, _REFUSED[event])
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            pending.ready = True
        elif event == zmq.EVENT_CLOSED:
            pending.failure = pending.failure or "nobody listens there"
        elif event in _FAILED:
            pending.failure = _FAILED[event]

    # --- receiving ------------------------------------------------------------------------------------------------

    def has_messages(self) -> bool:
        """Whether something waits to be received; also lets ZeroMQ do what is due."""
        events: Any = _get(self._socket, _EVENTS)
        return bool(events & _POLLIN)

    def has_news(self) -> bool:
        """Whether ``pump`` would find something."""
        return bool(self._gone) or self.has_messages()

    def pump(self) -> None:
        """Take what has arrived."""
        self.touched = False
        gone = self._gone
        if self.has_messages():
            self._gone = []
            try:
                for _ in range(_BATCH):
                    self._receive_unit()
            except zmq.Again:
                pass
            else:
                self.touched = True  # there may be more
                self._gone = gone + self._gone
                return
        else:
            self._gone = []
        for connection in gone:
            self._lost(connection)

    def _receive_unit(self) -> None:
        id_frame, frame, *parts = self._incoming.take()
        id = id_frame.bytes
        connection = self._links.get(id)
        if connection is None and self._accepts:
            connection = self._accept(id, frame)
        data = frame.bytes
        if connection is None or connection.closed:
            return
        try:
            self._take(connection, data, parts)
        except RemoteProtocolError:
            self.end(connection)
            if connection.stranger:
                hang_up(connection.fd, self._open.get(connection.fd))
            else:
                self._events.append((connection, None))

    def _take(self, connection: ZmqConnection, data: bytes, parts: list[Any]) -> None:
        kind = data[0] if data else wire.BYE
        if len(parts) != (kind == wire.PIECE):
            raise RemoteProtocolError(f"unit of kind {kind} in {1 + len(parts)} parts")
        if kind <= wire.MESSAGE:
            frames = connection.assembler.head(data)
            nbytes = len(data)
        elif kind == wire.PIECE:
            piece = parts[0].buffer
            frames = connection.assembler.piece(piece)
            nbytes = len(piece)
        elif kind == wire.CREDIT:
            connection.window.credited(data[1:])
            if connection.queue:
                self.flush(connection)
            return
        elif kind == wire.BYE:
            self._lost(connection, let_go=not self._accepts)
            self._see_off(connection)
            return
        else:
            raise RemoteProtocolError(f"unit of kind {kind}")
        if connection.stranger:
            if frames is None or nbytes > FIRST_MESSAGE_BYTES:
                raise RemoteProtocolError(f"the first message of a peer has more than {FIRST_MESSAGE_BYTES} bytes")
            connection.stranger = False
            self.strangers.left(connection.fd)
        if frames is not None:
            self._events.append((connection, frames))
        if connection.received.taken(nbytes):
            self._send(connection, wire.credit_unit(connection.received.credit()))

    def _accept(self, id: bytes, frame: zmq.Frame) -> ZmqConnection | None:
        """Take the first unit of a peer that has connected; what ZeroMQ told before that is known first.

        None for a peer of ZeroMQ 2, of which ZeroMQ does not tell the descriptor: as it stays a stranger, it is turned
        away in a while.
        """
        try:
            fd: int = frame.get(zmq.SRCFD)
        except zmq.ZMQError:
            return None
        connection = self._make(self)
        connection.id, connection.fd, connection.stranger = id, fd, True
        self._links[id] = connection
        self.read_monitor()
        if fd in self._open:
            self._by_fd[fd] = connection
            self.has_messages()  # lets ZeroMQ take note if the descriptor is another peer's by now
            if self._send(connection, wire.credit_unit(connection.received.credit())):
                return connection
            del self._by_fd[fd]
        self._gone.append(connection)
        self.touched = True
        return connection

    # --- sending --------------------------------------------------------------------------------------------------

    def offer(self, connection: ZmqConnection, units: Sequence[wire.Unit]) -> None:
        """Send what the peer has room for, and keep the rest."""
        connection.queue.extend(units)
        connection.unsent += sum(unit[0] for unit in units)
        self.flush(connection)

    def flush(self, connection: ZmqConnection) -> None:
        """Send what is kept, as far as there is room."""
        queue, window = connection.queue, connection.window
        while queue and window.is_open:
            unit = queue.popleft()
            connection.unsent -= unit[0]
            window.sent(unit[0])
            if not self._send(connection, unit):
                connection.drop_queue()  # the monitor tells of the loss, or has done so

    def _send(self, connection: ZmqConnection, unit: wire.Unit) -> bool:
        """Hand one unit to ZeroMQ; False if the peer is not there any more."""
        self.touched = True
        self.handed += 1
        socket, parts = self._socket, unit[1]
        try:
            calls = [(socket, connection.id, _NOW_MORE), *((socket, part, _NOW_MORE) for part in parts[:-1])]
            # In one step: a send that interrupts this one must not come between the parts.
            deque(itertools.starmap(_send, (*calls, (socket, parts[-1], _NOW, unit[0] < _LEND_BYTES))), 0)
        except zmq.Again:  # the window rules it out; were it wrong, the peer would be lost, not the message
            self._gone.append(connection)  # and the socket has just been touched
            return False
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            return False
        return True

    # --- ending ---------------------------------------------------------------------------------------------------

    def end(self, connection: ZmqConnection) -> None:
        """This end has closed: tell the peer, and drop what is queued."""
        connection.closed = True
        connection.drop_queue()
        if connection.id in self._links:
            self._send(connection, wire.BYE_UNIT)
            if not self._accepts:
                self._let_go(connection)
            self._see_off(connection)

    def _see_off(self, connection: ZmqConnection) -> None:
        """Both ends know that it is over: ours close now, others may not."""
        if self._accepts and self._by_fd.get(connection.fd) is connection:
            self.strangers.arrived(connection.fd)

    def turn_away(self) -> None:
        """End the connections of those who have said nothing in time, or are too many."""
        strangers = self.strangers
        if len(strangers) <= 2 * strangers.limit and self.has_messages():
            self.touched = True  # one of these may be what was waited for
            return
        for fd in strangers.surplus():
            hang_up(fd, self._open.get(fd))

    def _lost(self, connection: ZmqConnection, *, let_go: bool = True) -> None:
        """The peer has closed or died."""
        if let_go:
            self._let_go(connection)
        if not connection.closed:
            connection.closed = True
            connection.drop_queue()
            if not connection.stranger:  # else nobody knows of it
                self._events.append((connection, None))

    def _let_go(self, connection: ZmqConnection) -> None:
        if self._links.pop(connection.id, None) is None:
            return
        if self._by_fd.get(connection.fd) is connection:
            del self._by_fd[connection.fd]
            self._open.pop(connection.fd, None)
        address = connection.address
        if address:
            self._users[address] -= 1
            if not self._users[address]:
                del self._users[address]
                with contextlib.suppress(zmq.ZMQError):
                    self._socket.disconnect(address)

    def close(self) -> None:
        """Close the sockets; what was sent lingers for a bounded time."""
        with contextlib.suppress(zmq.ZMQError):
            self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()

    def abandon(self) -> None:
        """In a forked child: close ZeroMQ's descriptors, so that its peers see when the parent ends."""
        for fd, number in self._open.items():
            if number and inode(fd) == number:
                os.close(fd)
        for socket in (self._socket, self._monitor):
            sockets.disown(socket)
