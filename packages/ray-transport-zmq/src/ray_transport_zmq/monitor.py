"""What ZeroMQ tells of its descriptors to peers. See ``ray_transport_zmq.hub`` for which thread may use it when."""

from __future__ import annotations

import ctypes
import os
import struct

import zmq

from ray.abc.strangers import Strangers
from ray_transport_zmq import sockets
from ray_transport_zmq.connection import ZmqConnection
from ray_transport_zmq.descriptors import hang_up, inode
from ray_transport_zmq.incoming import Notes
from ray_transport_zmq.refusals import Refusals

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
_OPENS = (zmq.EVENT_LISTENING, zmq.EVENT_ACCEPTED, zmq.EVENT_CONNECTED)


class Monitor:
    """Watches one router socket."""

    def __init__(self, context: sockets.Context, socket: zmq.Socket[bytes], *, accepts: bool) -> None:
        self._socket = sockets.monitor(context, socket)
        self._handle = ctypes.c_void_p(self._socket.underlying)
        self._notes = Notes(self._handle)
        self._accepts = accepts
        self._refusals = Refusals()
        self.fd: int = self._socket.FD
        #: {descriptor: inode}, of the sockets that ZeroMQ has open here
        self.open: dict[int, int] = {}
        #: {descriptor: connection}
        self.by_fd: dict[int, ZmqConnection] = {}
        #: Connections whose descriptor is closed; reported once everything they brought has been taken.
        self.gone: list[ZmqConnection] = []
        #: Descriptors of peers that have said nothing yet, or are to leave.
        self.strangers: Strangers[int] = Strangers()
        #: {address: the connection being made to it}: ZeroMQ tells of attempts by address only.
        self.pending: dict[str, ZmqConnection] = {}
        self.read()  # ZeroMQ makes a descriptor readable only once a look has found nothing to read

    def read(self) -> None:
        """Take what the monitor tells."""
        while True:
            note = self._notes.first()
            if note is None:
                break
            self._tell(note)

    def _tell(self, note: tuple[bytes, bytes]) -> None:
        kept, opened, by_fd = self._notes.kept, self.open, self.by_fd
        event, value = _EVENT.unpack(note[0])
        address = note[1].decode()
        pending = self.pending.get(address)
        if event in _OPENS:
            number = inode(value)
            if event == zmq.EVENT_ACCEPTED:
                self.strangers.arrived(value)
            connects = event == zmq.EVENT_CONNECTED and pending is not None
            if kept and kept[0] is note:
                opened[value] = number
                if connects:
                    pending.fd = value  # type: ignore[union-attr]
                    by_fd[value] = pending  # type: ignore[assignment]
                kept.popleft()
            return
        if event == zmq.EVENT_DISCONNECTED:
            self.strangers.left(value)
            if kept and kept[0] is note:
                if value in opened:
                    del opened[value]
                if value in by_fd:
                    connection = by_fd[value]
                    del by_fd[value]
                    if connection is pending:
                        pending.reason = pending.reason or "the peer has closed the connection"
                    else:
                        self.gone.append(connection)
        elif pending is None:
            if self._accepts and event in _REFUSED:
                self._refusals.note(address, _REFUSED[event])
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            pending.ready = True
        elif event == zmq.EVENT_CLOSED:
            pending.reason = pending.reason or "nobody listens there"
        elif event in _FAILED:
            pending.reason = _FAILED[event]
        if kept and kept[0] is note:
            kept.popleft()

    def make_room(self) -> None:
        """There are no descriptors: end the older half of those connections whose peers have said nothing yet."""
        for _ in range((len(self.strangers) + 1) // 2):
            fd = self.strangers.oldest()
            if fd is not None:
                self.turn_away(fd)

    def turn_away(self, fd: int) -> None:
        """End whatever connection a descriptor now belongs to, unless it is one of this end's that goes on."""
        connection = self.by_fd.get(fd)
        if connection is None or connection.stranger or connection.closed:
            hang_up(fd, self.open.get(fd))

    def knows(self, connection: ZmqConnection) -> bool:
        """Whether its descriptor is open, and its own."""
        return self.by_fd.get(connection.fd) is connection

    def hang_up_on(self, connection: ZmqConnection) -> None:
        """End a connection, unless its descriptor is closed, or another file's by now."""
        fd, by_fd, opened = connection.fd, self.by_fd, self.open
        if fd in by_fd and by_fd[fd] is connection and fd in opened:
            hang_up(fd, opened[fd])

    def forget(self, connection: ZmqConnection) -> None:
        """Its descriptor will be closed, or another file's."""
        fd, by_fd = connection.fd, self.by_fd
        if fd in by_fd and by_fd[fd] is connection:
            del by_fd[fd]
            if fd in self.open:
                del self.open[fd]

    def close(self) -> None:
        """Close its own socket."""
        self._handle.value = None
        self._socket.close()

    def abandon(self) -> None:
        """In a forked child: close ZeroMQ's descriptors, so that its peers see when the parent ends."""
        for fd, number in self.open.items():
            if number and inode(fd) == number:
                os.close(fd)
        sockets.disown(self._socket)
