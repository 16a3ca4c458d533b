"""Connections of a process to others, one per peer address, opened when first needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ray.abc.transport import Connection, Frame, Transport
from ray.messages import codec, wire
from ray.protocol import handshake
from ray.protocol.references import ObjectEntry
from ray.runtime import descriptors, unsent

#: Large argument values are kept by the workers that got them, for the next task with the same ref, up to this much.
MAX_KEPT_BYTES = 1 << 30


class OutOfDescriptorsError(ConnectionError):
    """Nothing is wrong with the peer: this process may not have one more file open."""


class Peer:
    """Another process. ``sink`` is whatever takes its replies: a leased worker's link, or an actor's client."""

    __slots__ = (
        "_forgets",
        "address",
        "connection",
        "greeted",
        "kept",
        "kept_bytes",
        "known",
        "lost",
        "outbox",
        "outbox_frames",
        "sink",
    )

    def __init__(self, connection: Connection, address: str) -> None:
        self.connection = connection
        self.address = address
        #: Hashes of functions it has been sent.
        self.known: set[bytes] = set()
        #: {object id: size} of large argument values that it keeps until told to forget them, oldest first.
        self.kept: dict[bytes, int] = {}
        self.kept_bytes = 0
        self._forgets: list[bytes] = []
        self.sink: Any = None
        self.lost = False
        #: It has been told who this process is, or has said so itself.
        self.greeted = False
        #: Results for this peer that are not sent yet, and their large buffers (frame 0 is kept free).
        self.outbox: list[Any] = []
        self.outbox_frames: list[Any] = [b""]

    def send(self, message: Any, frames: list[Any] | None = None) -> None:
        """Send a message; ``frames`` holds its buffers behind a free first place.

        Raises:
            UnpicklableError: it holds what cannot be encoded, and was not sent.
        """
        data = unsent.encode(message)
        if frames is None or len(frames) == 1:
            self.connection.send((data,))
        else:
            frames[0] = data
            self.connection.send(frames)

    def keeps(self, entry: ObjectEntry) -> bool:
        """Whether it has this argument's value from an earlier push; a large one that is sent now it will have."""
        if entry.id in self.kept:
            return True
        nbytes = len(entry.value)
        if codec.OUT_OF_BAND_BYTES <= nbytes <= MAX_KEPT_BYTES:
            self.kept[entry.id] = nbytes
            self.kept_bytes += nbytes
            while self.kept_bytes > MAX_KEPT_BYTES:
                self.drop_kept(next(iter(self.kept)))
        return False

    def drop_kept(self, id: bytes) -> None:
        """It will be told, by ``send_forgets``, that this value is not used again."""
        self.kept_bytes -= self.kept.pop(id)
        self._forgets.append(id)

    def send_forgets(self) -> None:
        """Tell it what to forget; after the message whose tasks may still rely on it."""
        if self._forgets:
            ids, self._forgets = self._forgets, []
            self.send(wire.Forget(ids))


class PeerTable:
    """All peers of this process. The caller holds the runtime's lock."""

    def __init__(self, transport: Transport, session: str, kind: str, process: bytes) -> None:
        self._transport = transport
        self._session = session
        self._kind = kind
        self._process = process
        #: This process's own address.
        self.address = ""
        #: {address: peer}
        self.by_address: dict[str, Peer] = {}

    def hello(self) -> bytes:
        """The first message to anybody."""
        return codec.encode(handshake.hello(self._session, self._kind, self._process, self.address, os.getpid()))

    def reach(self, address: str) -> Peer:
        """The peer at ``address``, connected if need be; may block for the transport's connect.

        Raises:
            OutOfDescriptorsError: this process cannot have one more connection.
            ConnectionError: nobody is there (any more).
        """
        peer = self.by_address.get(address)
        if peer is None:
            connection = self._connect(address)
            connected = connection.context = Peer(connection, address)
            peer = self.by_address.setdefault(address, connected)
            if peer is not connected:  # somebody who has interrupted this was quicker
                connection.abort()
        if not peer.greeted:  # the same may have to say it first; twice does no harm
            peer.connection.send((self.hello(),))
            peer.greeted = True
        return peer

    def _connect(self, address: str) -> Connection:
        try:
            return self._transport.connect(address)
        except ConnectionError as error:
            if not descriptors.is_exhausted(error):
                raise
        descriptors.raise_limit()  # only now that it is needed: the program may count on its limit
        try:
            return self._transport.connect(address)
        except ConnectionError as error:
            if not descriptors.is_exhausted(error):
                raise
            raise OutOfDescriptorsError(f"no connection to another process: {descriptors.describe()}") from error

    def accept(self, connection: Connection, frames: Sequence[Frame]) -> Peer:
        """Take an incoming connection's first message.

        Raises:
            RemoteProtocolError: it is not a hello of this session.
        """
        hello = handshake.check(codec.decode(frames), self._session)
        # Both ends may connect at the same time: each then sends on its own connection only, and so in order.
        peer = self.by_address.get(hello.address) if hello.address else None
        if peer is None:
            peer = self.by_address[hello.address] = Peer(connection, hello.address)
            peer.greeted = True
        connection.context = peer
        return peer

    def forget(self, peer: Peer) -> None:
        """The connection is gone."""
        peer.lost = True
        if self.by_address.get(peer.address) is peer:
            del self.by_address[peer.address]
