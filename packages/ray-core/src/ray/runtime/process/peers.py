"""Connections of a process to others, one to each, dialled when first needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from msgspec.structs import replace

from ray.abc.transport import Connection, Frame, Transport
from ray.ids import node_number, node_of
from ray.messages import codec, wire
from ray.protocol import handshake
from ray.protocol.conversations import Conversation
from ray.protocol.references import ObjectEntry
from ray.runtime.process import descriptors
from ray.runtime.process.encoding import encode
from ray.runtime.process.kept_connection import KeptConnection, new_conversation
from ray.runtime.process.own_faults import DROPPED, CutOffError, OutOfDescriptorsError, OwnFaultError, Probe, told_again
from ray.runtime.process.resuming import Resuming

#: Large argument values are kept by the workers that got them, for the next task with the same ref, up to this much.
MAX_KEPT_BYTES = 1 << 30

#: Goes on when it is decided whether a peer is reached: with None if it is, else with the reason why it is not.
Again: TypeAlias = "Callable[[ConnectionError | None], None]"


class Sink(Protocol):
    """What takes a peer's replies: a leased worker's link, or an actor's client."""

    @property
    def inflight(self) -> Mapping[bytes, object]:
        """{task id: task} of what the peer has been sent and has not answered, in the order of sending."""


class Peer:
    """Another process, and where to dial it."""

    __slots__ = (
        "address",
        "connection",
        "forgets",
        "greeted",
        "incoming",
        "is_guest",
        "kept",
        "kept_bytes",
        "known",
        "lost",
        "near",
        "outbox",
        "outbox_frames",
        "process",
        "second",
        "sink",
        "stands",
        "talk",
        "waiting",
    )

    def __init__(
        self, connection: Connection, process: bytes, address: str, *, near: bool = True, is_guest: bool = False
    ) -> None:
        self.connection = connection
        #: The same where it outlives the loss of what it runs over, as it does for processes of other nodes.
        self.talk = connection if isinstance(connection, KeptConnection) else None
        #: Its id; empty of one that owns nothing and is asked nothing.
        self.process = process
        self.address = address
        #: It is of the same node, and so has the same store: values in there need not be sent.
        self.near = near
        #: It runs on a machine without a node, and so reads no store of any.
        self.is_guest = is_guest
        #: Hashes of functions it has been sent.
        self.known: set[bytes] = set()
        #: {object id: size} of large argument values that it keeps until told to forget them, oldest first.
        self.kept: dict[bytes, int] = {}
        self.kept_bytes = 0
        #: Ids of those that it is about to be told to forget.
        self.forgets: list[bytes] = []
        self.sink: Sink | None = None
        self.lost = False
        #: It is, or was, connected; else it is still being dialled, or was not reached.
        self.stands = True
        #: {a key of the caller: how it goes on} of callers that wait until that is decided.
        self.waiting: dict[object, Again] = {}
        #: It has been told which process this is, or has said which one it is.
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

        ``frames[0]`` is None once it is with the transport; code that puts None there before keeps it from being sent.

        Raises:
            UnpicklableError: as ``send``.
        """
        data = encode(message)
        if frames[0] is not None:
            frames[0] = data
            self.connection.send(frames)

    def keeps(self, entry: ObjectEntry, nbytes: int, pushed: dict[bytes, ObjectEntry]) -> bool:
        """Whether it has this argument, of so many bytes, from an earlier push, or from the one being made.

        ``pushed``: {object id: entry} of the large values that go with the latter; added to. It may rely on them, but
        no other push may, before it has left: a finaliser in the middle may have it made anew.
        """
        if entry.id in self.kept or entry.id in pushed:
            return True
        if codec.OUT_OF_BAND_BYTES <= nbytes <= MAX_KEPT_BYTES:
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
                self.kept[id] = nbytes = entry.size()
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

    def __init__(self, transport: Transport, membership: handshake.Membership, kind: str, process: bytes) -> None:
        self._transport, self._membership = transport, membership
        self._kind, self._process = kind, process
        self._node = node_of(process)
        #: Whether there has ever been a peer of another node.
        self.knows_far = False
        #: This process's own address.
        self.address = ""
        #: That of the node manager.
        self.node_address = ""
        #: {process id: peer}
        self.by_process: dict[bytes, Peer] = {}
        #: Peers of which it is not decided, or not told yet, whether they are reached; what was found out about those
        #: that are not.
        self.dialling: dict[Peer, Probe | None] = {}
        #: How often a peer was reached that was not connected.
        self.made = 0
        self.resuming: Resuming[Peer] = Resuming(transport, process, self.hello_to)
        #: Monotonic time since when this process is known to reach nobody; 0 if it is not.
        self.cut_off = 0.0

    def hello_of(self, address: str, to: bytes = b"") -> wire.Hello:
        """The first message to the process ``to``, or to the node manager; ``address`` is this process's."""
        return handshake.hello(self._membership, self._kind, self._process, address, os.getpid(), to)

    def reach(self, process: bytes, address: str) -> Peer:
        """The peer of that id, dialled at ``address`` if need be. What it is sent waits until it stands.

        See ``on_decision``.

        Raises:
            OutOfDescriptorsError: this process cannot have one more connection.
            CutOffError: it can have none any more.
            ConnectionError: nobody is there (any more), as is known at once.
        """
        peer = self.by_process.get(process)
        if peer is None:
            connection, probe = self._dial(address)
            dialled = self._peer(connection, process, address, None)
            if connection.dialling or probe is not None:
                dialled.stands = False
                self.dialling[dialled] = probe
            else:
                self._has_reached()
            connection.context = dialled
            peer = self.by_process.setdefault(process, dialled)
            if peer is not dialled:  # a call that has interrupted this was quicker
                self.dialling.pop(dialled, None)
                connection.abort()
        if not peer.greeted:  # the same may have to say it first; twice does no harm
            connection = peer.connection if peer.talk is None else peer.talk.inner
            connection.send((codec.encode(self.hello_to(peer)),))
            peer.greeted = True
        return peer

    def hello_to(self, peer: Peer) -> wire.Hello:
        """The first message to a peer."""
        hello = self.hello_of(self.address, peer.process)
        return hello if peer.talk is None else replace(hello, talk=peer.talk.conversation.id)

    def stand(
        self, process: bytes, address: str, key: object, again: Again, failure: ConnectionError | None
    ) -> Peer | None:
        """The peer of that id once it stands; None while it is dialled: the caller goes on with ``again`` then.

        ``key`` tells callers apart, each of which waits once; ``failure`` is what ``again`` was given.

        Raises:
            ConnectionError: ``failure``, or as ``reach``.
        """
        if failure is not None:
            raise failure
        peer = self.reach(process, address)
        return None if self.on_decision(peer, key, again) else peer

    def on_decision(self, peer: Peer, key: object, again: Again) -> bool:
        """Have ``again`` called when it is decided whether the peer is reached; False if it is, which calls nothing.

        It may be called twice, by a call that interrupts the first one.
        """
        if peer.stands:
            return False
        peer.waiting[key] = again
        if peer not in self.dialling:  # it was decided before that, and told
            failure = peer.connection.failure
            self._tell(peer, None if failure is None else told_again(failure))
        return True

    def look(self) -> list[Peer]:
        """Tell the callers that wait for peers of which it is decided now whether they are reached.

        Returns:
            Peers that are not, through no fault of this process.
        """
        lost = []
        for peer in list(self.dialling):
            connection = peer.connection
            if connection.dialling:
                continue
            failure = connection.failure
            if failure is None:
                if not peer.stands:  # a call that interrupts this may look as well
                    peer.stands = True
                    self._has_reached()
                self._tell(peer, None)
                continue
            self.forget(peer)
            probe = self.dialling.get(peer)
            if probe is None:
                self.dialling[peer] = probe = Probe(self._transport, self.node_address)
            if probe.is_decided:
                error = self._judge(probe, told_again(failure))
                self._tell(peer, error)
                if not isinstance(error, OwnFaultError):
                    lost.append(peer)
        return lost

    def _tell(self, peer: Peer, error: ConnectionError | None) -> None:
        waiting = peer.waiting
        while True:
            if not waiting:
                self.dialling.pop(peer, None)
                return
            for key, again in list(waiting.items()):
                again(error)
                waiting.pop(key, None)
                if error is not None:
                    error.__traceback__ = None  # it may have raised it, and its frames have it

    def _peer(self, connection: Connection, process: bytes, address: str, talk: bytes | None) -> Peer:
        # A driver on a machine without a node has the id of its home's, and an address of its own.
        number = self._transport.node_in(address) if process else 0
        near = not process or (node_of(process) == self._node and not number)
        if not near:
            self.knows_far = True
        is_guest = number not in (0, node_number(process)) if process else False
        if not near and talk != b"":
            connection = KeptConnection(new_conversation() if talk is None else Conversation(talk), connection)
        return Peer(connection, process, address, near=near, is_guest=is_guest)

    def _has_reached(self) -> None:
        self.cut_off = 0.0
        self.made += 1

    def _dial(self, address: str) -> tuple[Connection, Probe | None]:
        """Begin to connect. Where that has failed at once, and it is not known yet for whose fault, with a probe."""
        try:
            connection = self._transport.dial(address)
        except ConnectionError as error:
            if not descriptors.is_exhausted(error):
                raise
            descriptors.raise_limit()  # only now that it is needed: the program may count on its limit
            try:
                connection = self._transport.dial(address)
            except ConnectionError as again:
                if not descriptors.is_exhausted(again):
                    raise
                raise OutOfDescriptorsError(f"no connection to another process: {descriptors.describe()}") from again
        failure = connection.failure
        if failure is None:
            return connection, None
        probe = Probe(self._transport, self.node_address)
        if probe.is_decided:
            connection.context = DROPPED
            raise self._judge(probe, told_again(failure))
        return connection, probe

    def _judge(self, probe: Probe, failure: ConnectionError) -> ConnectionError:
        """A peer was not reached for this ``failure``: whose fault is it?"""
        error = probe.end()
        if error is None:
            return failure
        self.cut_off = self.cut_off or probe.began
        cut_off = CutOffError(error, self.cut_off)
        cut_off.__cause__ = error
        return cut_off

    def accept(self, connection: Connection, frames: Sequence[Frame], lost: Callable[[Peer], None]) -> Peer | None:
        """Take an incoming connection's first message; ``lost`` is told of one that it takes the place of.

        A call that interrupts this takes the same message: there is one peer then, whichever of the two has made it.

        Raises:
            RemoteProtocolError: it is not a hello of this session.
        """
        hello, by_process = handshake.check(codec.decode(frames), self._membership, self._process), self.by_process
        process = hello.process
        if hello.talk and self.resuming.accept(self.by_process.get(process), connection, hello, lost):
            return None
        made = self._peer(connection, process, hello.address, hello.talk)
        made.greeted = made.incoming = True
        if process in by_process:
            self._transport.cut_off()
        while True:
            if connection.context is not None:  # not in the loop's head: a call may come behind that
                break
            if not process:  # it only asks
                connection.context = made
                break
            if process not in by_process:
                by_process[process] = connection.context = made
                break
            peer = by_process[process]
            is_over = self.resuming.is_given_up(peer)  # first, as it is a call
            if not (is_over or peer.incoming or peer.second is not None or peer.connection.closed):
                self.resuming.meet(peer, connection, hello)
                break
            # It has lost that connection, and this end has not heard of it yet. What has come that way and was not
            # taken has come too late: nothing is to begin behind what comes now that was sent before it.
            for old in (peer.connection, peer.second):
                if old is not None:
                    old.abort()
                    old.context = DROPPED
            lost(peer)
            if process in by_process and by_process[process] is peer:  # no call comes between the look and the step
                del by_process[process]
        context: Any = connection.context
        accepted: Peer = context
        if hello.again is not None and accepted.talk is not None and accepted is made:
            accepted.talk.raw(wire.GoesOn(0))
        return accepted

    def forget(self, peer: Peer) -> None:
        """The connection is gone."""
        peer.lost = True
        talk = peer.talk
        if talk is not None:
            talk.is_over = True
            self.resuming.ended(talk.conversation, peer.second)
        process, by_process = peer.process, self.by_process
        if process in by_process and by_process[process] is peer:
            del by_process[process]
