"""Connections of a process to others, one per peer address, opened when first needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from ray.abc.transport import Connection, Frame, Transport
from ray.clock import monotonic
from ray.exceptions import RayConnectionError, RaySystemError
from ray.messages import codec, wire
from ray.protocol import handshake
from ray.protocol.references import ObjectEntry
from ray.runtime.process import descriptors
from ray.runtime.process.encoding import encode

#: Large argument values are kept by the workers that got them, for the next task with the same ref, up to this much.
MAX_KEPT_BYTES = 1 << 30

#: How soon the node manager, whose address is known to be good, has to answer one who asks whether it can be reached.
_PROBE_S = 1.0

#: How long a process that reaches nobody tries again; longer than the node manager needs to find that its directory is
#: gone, as everybody is told of that.
CUT_OFF_S = 2.0

#: The context of a connection that was dropped, whose messages may still be under way here.
DROPPED = object()


class OwnFaultError(ConnectionError):
    """Nothing is wrong with the peer, as far as is known. ``kind``: of the error that the program gets."""

    kind: type[RaySystemError] = RaySystemError


class OutOfDescriptorsError(OwnFaultError):
    """This process may not have one more file open."""


class CutOffError(OwnFaultError):
    """This process can reach nobody, not even its node manager. ``since``: when that was noticed first."""

    kind = RayConnectionError

    def __init__(self, cause: ConnectionError, since: float) -> None:
        self.since = since
        super().__init__(
            f"This process (pid {os.getpid()}) cannot reach the other processes of its session any more: {cause}. Its "
            "user, root directory, mounts or rights have changed since it started, or the directory of the session was "
            "removed. Make such changes in a process of its own (subprocess), or only once ray is not needed any more."
        )

    @property
    def lasts(self) -> bool:
        """Whether it is known for so long that it is not expected to pass."""
        return monotonic() - self.since >= CUT_OFF_S


class Peer:
    """Another process. ``sink`` is whatever takes its replies: a leased worker's link, or an actor's client."""

    __slots__ = (
        "address",
        "connection",
        "forgets",
        "greeted",
        "incoming",
        "kept",
        "kept_bytes",
        "known",
        "lost",
        "outbox",
        "outbox_frames",
        "second",
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
        #: Ids of those that it is about to be told to forget.
        self.forgets: list[bytes] = []
        self.sink: Any = None
        self.lost = False
        #: It has been told who this process is, or has said so itself.
        self.greeted = False
        #: It has opened the connection; else it may open a ``second`` one at the same time.
        self.incoming = False
        self.second: Connection | None = None
        #: Results for this peer that are not sent yet, and their large buffers (frame 0 is kept free).
        self.outbox: list[Any] = []
        self.outbox_frames: list[Any] = [b""]

    def send(self, message: Any, frames: list[Any] | None = None) -> None:
        """Send a message; ``frames`` holds its buffers behind a free first place.

        Raises:
            UnpicklableError: it holds what cannot be encoded, and was not sent.
        """
        data = encode(message)
        if frames is None or len(frames) == 1:
            self.connection.send((data,))
        else:
            frames[0] = data
            self.connection.send(frames)

    def push(self, message: Any, frames: list[Any]) -> None:
        """Send a message that code which interrupts this may send in its place.

        ``frames[0]`` is None once it is with the transport; whoever puts None there before keeps it from being sent.

        Raises:
            UnpicklableError: as ``send``.
        """
        data = encode(message)
        if frames[0] is not None:
            frames[0] = data
            self.connection.send(frames)

    def keeps(self, entry: ObjectEntry, value: Any, pushed: dict[bytes, ObjectEntry]) -> bool:
        """Whether it has this argument's ``value`` from an earlier push, or from the one being made.

        ``pushed``: {object id: entry} of the large values that go with the latter; added to. It may rely on them, but
        no other push may, before it has left: a finaliser in the middle may have it made anew.
        """
        if entry.id in self.kept or entry.id in pushed:
            return True
        if codec.OUT_OF_BAND_BYTES <= len(value) <= MAX_KEPT_BYTES:
            pushed[entry.id] = entry
        return False

    def has_left(self, pushed: dict[bytes, ObjectEntry]) -> None:
        """A push is with the transport, which had these large values; it is told what to forget.

        Nothing is to be done if there are none, and ``forgets`` is empty.
        """
        for id, entry in pushed.items():
            if entry.freed:
                self.forgets.append(id)
            elif id not in self.kept:
                self.kept[id] = nbytes = len(entry.value)
                self.kept_bytes += nbytes
        while self.kept_bytes > MAX_KEPT_BYTES:
            self.drop_kept(next(iter(self.kept)))
        if self.forgets:
            self.send_forgets()

    def drop_kept(self, id: bytes) -> None:
        """It will be told, by ``send_forgets``, that this value is not used again."""
        self.kept_bytes -= self.kept.pop(id)
        self.forgets.append(id)

    def send_forgets(self) -> None:
        """Tell it what to forget; after the message whose tasks may still rely on it."""
        if self.forgets:
            ids, self.forgets = self.forgets, []
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
        #: That of the node manager.
        self.node_address = ""
        #: {address: peer}
        self.by_address: dict[str, Peer] = {}
        #: How often a peer was reached that was not connected.
        self.made = 0
        #: Monotonic time since when this process is known to reach nobody; 0 if it is not.
        self.cut_off = 0.0

    def hello(self) -> bytes:
        """The first message to anybody."""
        return codec.encode(handshake.hello(self._session, self._kind, self._process, self.address, os.getpid()))

    def reach(self, address: str) -> Peer:
        """The peer at ``address``, connected if need be; may block for the transport's connect.

        Raises:
            OutOfDescriptorsError: this process cannot have one more connection.
            CutOffError: it can have none any more.
            ConnectionError: nobody is there (any more).
        """
        peer = self.by_address.get(address)
        if peer is None:
            connection = self._connect(address)
            self.cut_off = 0.0
            self.made += 1
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
                self._look_whose_fault()
                raise
        descriptors.raise_limit()  # only now that it is needed: the program may count on its limit
        try:
            return self._transport.connect(address)
        except ConnectionError as error:
            if not descriptors.is_exhausted(error):
                raise
            raise OutOfDescriptorsError(f"no connection to another process: {descriptors.describe()}") from error

    def _look_whose_fault(self) -> None:
        """A peer was not reached: see whether another one is.

        Raises:
            CutOffError: it is not.
        """
        began = monotonic()
        try:
            self._transport.connect(self.node_address, _PROBE_S).abort()
        except ConnectionError as error:
            # One that does not answer in time may be slow.
            if not descriptors.is_exhausted(error) and monotonic() - began < _PROBE_S:
                self.cut_off = self.cut_off or began
                raise CutOffError(error, self.cut_off) from error

    def accept(self, connection: Connection, frames: Sequence[Frame], lost: Callable[[Peer], None]) -> Peer:
        """Take an incoming connection's first message; ``lost`` is told of one that it takes the place of.

        A call that interrupts this takes the same message: there is one peer then, whichever of the two has made it.

        Raises:
            RemoteProtocolError: it is not a hello of this session.
        """
        address, by_address = handshake.check(codec.decode(frames), self._session).address, self.by_address
        made = Peer(connection, address)
        made.greeted = made.incoming = True
        if address in by_address:
            self._transport.cut_off()
        while True:
            if connection.context is not None:  # not in the loop's head: a call may come behind that
                break
            if not address or address not in by_address:
                by_address[address] = connection.context = made
                break
            peer = by_address[address]
            if not (peer.incoming or peer.second is not None or peer.connection.closed):
                # Both ends connect at the same time: each then sends on its own connection only, and so in order.
                peer.second, connection.context = connection, peer
                break
            # It has lost that connection, and this end has not heard of it yet. What has come that way and was not
            # taken has come too late: nothing is to begin behind what comes now that was sent before it.
            for old in (peer.connection, peer.second):
                if old is not None:
                    old.abort()
                    old.context = DROPPED
            lost(peer)
            if address in by_address and by_address[address] is peer:  # no call comes between the look and the step
                del by_address[address]
        accepted: Peer = connection.context
        return accepted

    def forget(self, peer: Peer) -> None:
        """The connection is gone."""
        peer.lost = True
        address, by_address = peer.address, self.by_address
        if address in by_address and by_address[address] is peer:
            del by_address[address]
