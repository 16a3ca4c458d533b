"""One router socket and the connections that run over it. No method blocks.

A transport has two: one that listens and one that connects. ZeroMQ tells by a monitor which of its descriptors it opens
and closes; the first message of a peer tells its descriptor. As one thread of ZeroMQ does all of this, a descriptor
that is reported closed has delivered everything that will ever come.

Any thread may use a hub at any time, and so may finalisers and signal handlers, which run between two steps of the code
here on the same thread. A lock would keep the former out, but the latter may wait for other threads, which would wait
for the lock. So there is none: the interpreter's own lock is held during every call of ZeroMQ, and what ZeroMQ has
told, and what it is to be given, stays on record until its effect is in place. An effect and its removal from the
record follow one another without a call in between, or are made by iterators in one call; before that, the code looks
whether it is still on record. A thread that comes goes on where others are.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import zmq

from ray.abc.strangers import FIRST_MESSAGE_BYTES
from ray.abc.transport import Connection, Frame
from ray.exceptions import RemoteProtocolError
from ray_transport_zmq import native, sockets, wire
from ray_transport_zmq.connection import ZmqConnection
from ray_transport_zmq.dialling import Dials
from ray_transport_zmq.incoming import Incoming, is_newer
from ray_transport_zmq.monitor import Monitor
from ray_transport_zmq.native import Message
from ray_transport_zmq.outgoing import Outgoing, walk

#: What ``poll`` returns.
Events: TypeAlias = "deque[tuple[Connection, Sequence[Frame] | None]]"

#: Units taken before others get their turn.
_BATCH = 512
#: What it takes to begin to connect; one more result tells that all have succeeded.
_CONNECT_STEPS = 2
_POLLIN = int(zmq.POLLIN)


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
        self.monitor = Monitor(context, socket, accepts=accepts)
        self._events = events
        self._handle = ctypes.c_void_p(socket.underlying)
        self._readable = native.Number(self._handle, zmq.EVENTS)
        self._make = make
        self._accepts = accepts
        #: {routing id: connection}, closed ones too until ZeroMQ has let go of them
        self._links: dict[bytes, ZmqConnection] = {}
        self._incoming = Incoming(self._handle, self._links)
        self._outgoing = Outgoing(self._handle)
        self.dials = Dials(self, self._links, self.monitor.pending)
        #: ``Outgoing.last`` when ``pump`` last found nothing more to receive.
        self._pumped: object = None
        self.fds: tuple[int, int] = (self._socket.FD, self.monitor.fd)

    @property
    def connections(self) -> list[ZmqConnection]:
        """Those that are open."""
        return [connection for connection in list(self._links.values()) if not connection.closed]

    @property
    def peer_fds(self) -> list[int]:
        """ZeroMQ's descriptors to its peers."""
        return list(self.monitor.by_fd)

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

    def attempt(self, connection: ZmqConnection) -> None:
        """Have ZeroMQ begin to connect, unless it was told."""
        id, begun = connection.id, connection.begun
        if not begun:  # asked again in each turn, while others are dialled as well
            naming = (self._handle, native.NAME, id, len(id))
            calls = walk(
                [
                    native.again(native.set_option, naming),
                    native.again(native.connect, (self._handle, connection.address.encode())),
                ]
            )
            if not begun:
                begun.extend(calls)
                self._outgoing.touch()  # it may have let messages in
        if len(begun) <= _CONNECT_STEPS:
            connection.reason = connection.reason or os.strerror(begun[-1])

    def stand(self, connection: ZmqConnection) -> None:
        """It is connected: send what was queued, unless another call has closed it meanwhile."""
        connection.dialling = False
        if connection.closed:
            self.end(connection)
        elif connection.reason:  # it is lost again
            self.monitor.gone.append(connection)
        else:
            self.flush(connection)

    def fail(self, connection: ZmqConnection, failure: ConnectionError) -> None:
        """It does not come to stand."""
        event = (connection, None)
        if not connection.closed:
            connection.failure = failure
            connection.closed = True
            connection.dialling = False
            self._events.append(event)
        connection.dialling = False
        connection.drop_queue()
        self._let_go(connection)

    # --- receiving ------------------------------------------------------------------------------------------------

    @property
    def is_touched(self) -> bool:
        """``pump`` has to look: the descriptor may be silent in spite of messages, or a peer is gone."""
        return self._outgoing.last[0] is not self._pumped or bool(self.monitor.gone)

    @property
    def last(self) -> object:
        """Another object for each unit that was handed to ZeroMQ, and for each call that may have let messages in."""
        return self._outgoing.last[0]

    def has_messages(self) -> bool:
        """Whether something waits to be received; also lets ZeroMQ do what is due."""
        next(native.again(native.get_option, self._readable.arguments), None)
        return bool(self._readable.value & _POLLIN)

    def has_news(self) -> bool:
        """Whether ``pump`` would find something; it looks anew then, as ZeroMQ announces nothing twice."""
        return (bool(self.monitor.gone) or self.has_messages()) and self._outgoing.touch()

    def pump(self) -> None:
        """Take what has arrived."""
        last = self._outgoing.last[0]
        self._pumped = None  # for a call that interrupts this one
        gone = tuple(self.monitor.gone)
        for _ in range(_BATCH):
            if not self._receive_unit() and not self.has_messages():
                break
        else:
            return  # there may be more
        self._pumped = last
        for connection in gone:
            self._lost(connection)
            with contextlib.suppress(ValueError):  # a call has interrupted this one
                self.monitor.gone.remove(connection)

    def _receive_unit(self) -> bool:
        incoming = self._incoming
        unit = incoming.receive()
        if unit is None:
            return False
        id, first, *rest = unit
        connection = self._links.get(id)
        data = first[0]
        if type(data) is Message:
            if connection is None and self._accepts:
                connection = self._accept(id, data)
            data = data.bytes
        following: list[Any] = []
        if connection is None or connection.closed:
            if incoming.unit is unit:
                incoming.unit = following
            return True
        event: tuple[Connection, Sequence[Frame] | None]
        try:
            assembler, frames, nbytes = self._read(connection, data, [part for part, *_ in rest])
        except RemoteProtocolError:
            event = (connection, None)
            was_stranger = connection.stranger
            if incoming.unit is not unit:  # a call that has interrupted this one has handled it
                return True
            incoming.unit = following
            connection.closed = True
            if not was_stranger:
                self._events.append(event)
            self.end(connection)
            if was_stranger:
                self.monitor.hang_up_on(connection)
            return True
        event = (connection, frames)
        was_stranger = connection.stranger and nbytes > 0
        if incoming.unit is not unit:
            return True
        incoming.unit = following
        connection.assembler = assembler
        if was_stranger:
            connection.stranger = False
        if frames is not None:
            self._events.append(event)
        if was_stranger and self.monitor.knows(connection):
            self.monitor.strangers.left(connection.fd)
        if nbytes and connection.received.taken(nbytes):
            self._send(connection, wire.credit_unit(connection.received.credit()))
        return True

    def _read(
        self, connection: ZmqConnection, data: bytes, parts: list[Message]
    ) -> tuple[wire.Assembler, list[Any] | None, int]:
        """What follows from a unit: what takes the next one, a message that is complete, and its bytes if they count.

        It may be asked twice.

        Raises:
            RemoteProtocolError: the peer does not keep to the protocol.
        """
        kind = data[0] if data else wire.BYE
        if len(parts) != (kind == wire.PIECE):
            raise RemoteProtocolError(f"unit of kind {kind} in {1 + len(parts)} parts")
        if kind == wire.CREDIT:
            connection.window.credited(data[1:])
            if connection.queue:
                self.flush(connection)
            return connection.assembler, None, 0
        if kind == wire.BYE:
            self._lost(connection, let_go=not self._accepts)
            if self._accepts:  # the peer has sent everything, and waits for this
                self.monitor.hang_up_on(connection)
            return connection.assembler, None, 0
        if kind <= wire.MESSAGE:
            nbytes = len(data)
            assembler, frames = connection.assembler.head(data)
        elif kind == wire.PIECE:
            piece = parts[0].buffer
            nbytes = len(piece)
            assembler, frames = connection.assembler.piece(piece)
        else:
            raise RemoteProtocolError(f"unit of kind {kind}")
        if connection.stranger and (frames is None or nbytes > FIRST_MESSAGE_BYTES):
            raise RemoteProtocolError(f"the first message of a peer has more than {FIRST_MESSAGE_BYTES} bytes")
        return assembler, frames, nbytes

    def _accept(self, id: bytes, message: Message) -> ZmqConnection | None:
        """Take the first unit of a peer that has connected; what ZeroMQ told before that is known first.

        None for a peer of ZeroMQ 2, of which ZeroMQ does not tell the descriptor: as it stays a stranger, it is turned
        away in a while.
        """
        fd = message.descriptor()
        if fd < 0:
            return None
        made = self._make(self)
        made.id, made.fd, made.stranger = id, fd, True
        monitor, by_fd = self.monitor, self.monitor.by_fd
        other: ZmqConnection | None = None  # came earlier by the same number, and so is gone
        monitor.read()
        if id not in self._links:
            self._links[id] = made
            if fd in monitor.open:
                if fd not in by_fd:
                    by_fd[fd] = made
                elif is_newer(id, by_fd[fd].id):
                    other, by_fd[fd] = by_fd[fd], made
        connection = self._links[id]
        if connection is not made:  # a call that has interrupted this one was quicker
            return connection
        self.has_messages()  # lets ZeroMQ take note if the descriptor is another peer's by now
        credit = wire.credit_unit(connection.received.credit())
        if not monitor.knows(connection) or not self._send(connection, credit):
            if fd in by_fd and by_fd[fd] is connection:
                del by_fd[fd]
            monitor.gone.append(connection)
        if other is not None:
            monitor.gone.append(other)
        return connection

    # --- sending --------------------------------------------------------------------------------------------------

    def flush(self, connection: ZmqConnection) -> None:
        """Send what is queued, as far as there is room."""
        queue, window, outgoing = connection.queue, connection.window, self._outgoing
        while window.is_open:
            if not queue or connection.dialling:
                break
            unit = queue[0]
            steps = [
                itertools.starmap(queue.popleft, ((),)),
                window.sending(unit[0]),
                *outgoing.steps(connection.id, unit),
            ]
            made: list[Any] = []
            calls = walk(steps)
            if not queue or queue[0] is not unit:
                continue
            made.extend(calls)
            if len(made) <= len(steps):
                self._refused(connection, made[-1])
                connection.drop_queue()  # the monitor tells of the loss, or has done so

    def _send(self, connection: ZmqConnection, unit: wire.Unit) -> bool:
        """Hand one unit to ZeroMQ; False if the peer is not there any more."""
        steps = self._outgoing.steps(connection.id, unit)
        made = list(walk(steps))
        if len(made) <= len(steps):
            self._refused(connection, made[-1])
            return False
        return True

    def _refused(self, connection: ZmqConnection, error: int) -> None:
        if error == zmq.EAGAIN:  # the window rules it out; were it wrong, the peer would be lost, not the message
            self.monitor.gone.append(connection)
        elif error not in (zmq.EHOSTUNREACH, zmq.ENOTSOCK):  # the peer is gone, or this end is closed
            raise zmq.ZMQError(error)

    # --- ending ---------------------------------------------------------------------------------------------------

    def end(self, connection: ZmqConnection) -> None:
        """This end has closed: tell the peer, and drop what is queued."""
        connection.closed = True
        connection.drop_queue()
        if connection.dialling:
            return  # it ends once that is decided
        if connection.id in self._links:
            self._send(connection, wire.BYE_UNIT)
            # The peer closes when it has read that. If this end did so now, with something unread, TCP would have the
            # peer lose what it has not read yet.
            if self.monitor.knows(connection):
                self.monitor.strangers.arrived(connection.fd)
            elif not self._accepts:
                self._let_go(connection)

    def turn_away(self) -> None:
        """End the connections of peers that have said nothing in time, or are too many."""
        strangers = self.monitor.strangers
        if len(strangers) <= 2 * strangers.limit and self.has_messages():
            self._pumped = None  # one of these may be what was waited for
            return
        for fd in strangers.surplus():
            self.monitor.turn_away(fd)

    def _lost(self, connection: ZmqConnection, *, let_go: bool = True) -> None:
        """The peer has closed or died."""
        if let_go:
            self._let_go(connection)
        event = (connection, None)
        connection.dialling = False
        if not connection.closed:
            connection.closed = True
            if not connection.stranger:  # else nobody knows of it
                self._events.append(event)
        connection.drop_queue()

    def _let_go(self, connection: ZmqConnection) -> None:
        if self._links.pop(connection.id, None) is None:
            return
        self.monitor.forget(connection)
        call = native.again(native.disconnect, (self._handle, connection.address.encode()), 2)
        if self.dials.let_go(connection):
            next(call, None)
            self._outgoing.touch()

    def close(self) -> None:
        """Close the sockets; what was sent lingers for a bounded time."""
        self.dials.close()
        with contextlib.suppress(zmq.ZMQError):
            self._socket.disable_monitor()
        self._handle.value = None
        self.monitor.close()
        self._socket.close()

    def abandon(self) -> None:
        """In a forked child: close ZeroMQ's descriptors, so that its peers see when the parent ends."""
        self.monitor.abandon()
        sockets.disown(self._socket)
