"""One end of a connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from ray.abc.transport import Connection, Frame
from ray.clock import monotonic
from ray_transport_zmq import wire
from ray_transport_zmq.credit import ReceiveWindow, SendWindow

CLOSE_FLUSH_S = 0.5


class ConnectionTransport(Protocol):
    """The transport, as its connections use it."""

    def submit(self, connection: ZmqConnection, units: list[wire.Unit], frames: Sequence[Frame]) -> None:
        """Send a message, now or when the peer has room."""

    def flush(self, connections: list[ZmqConnection], deadline: float) -> None:
        """Wait until all is sent or the time is over."""

    def end(self, connection: ZmqConnection) -> None:
        """Carry out what ``abort`` has decided."""


class ConnectionHub(Protocol):
    """The router socket of a connection, as the transport uses it."""

    def flush(self, connection: ZmqConnection) -> None:
        """Send what is queued, as far as there is room."""

    def end(self, connection: ZmqConnection) -> None:
        """This end has closed: tell the peer, and drop what is queued."""


class ZmqConnection(Connection):
    """State of one peer; the hub's, but for what ``Connection`` offers."""

    def __init__(self, transport: ConnectionTransport, hub: ConnectionHub) -> None:
        self.context = None
        self.closed = False
        self.hub = hub
        self._transport = transport
        #: By which ZeroMQ knows the peer here.
        self.id = b""
        #: ZeroMQ's descriptor to the peer; -1 while there is none.
        self.fd = -1
        #: Where it was opened to; empty if the peer opened it.
        self.address = ""
        #: How errors name that.
        self.target = ""
        #: The peer has connected, and its first message is still to come.
        self.stranger = False
        self.dialling = False
        self.failure = None
        #: The attempt to open it has succeeded, or why it has not.
        self.ready = False
        self.reason = ""
        self.window = SendWindow()
        self.received = ReceiveWindow()
        self.assembler = wire.Assembler()
        #: What is not handed to ZeroMQ yet.
        self.queue: deque[wire.Unit] = deque()
        #: Bytes that were queued so far.
        self.queued = 0
        #: Results of the calls that begin to connect, once they are made.
        self.begun: list[int] = []
        #: It is among those that ZeroMQ may have to its address.
        self.counted = False
        #: Until when to dial, and how long that was at first.
        self.deadline = self.timeout_s = 0.0

    def send(self, frames: Sequence[Frame]) -> None:
        first = frames[0]
        if not (self.closed or first is None):
            self._transport.submit(self, wire.encode((first, *frames[1:])), frames)

    @property
    def is_decided(self) -> bool:
        """ZeroMQ has told how the attempt to connect has ended."""
        return self.ready or bool(self.reason)

    @property
    def queued_bytes(self) -> int:
        return 0 if self.closed else self.queued - self.window.nbytes

    def close(self) -> None:
        self._transport.flush([self], monotonic() + CLOSE_FLUSH_S)
        self.abort()

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self._transport.end(self)

    def drop_queue(self) -> None:
        """Forget what is not sent."""
        self.queue.clear()
        self.queued = self.window.nbytes
