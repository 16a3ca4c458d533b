"""What a node manager and its object manager say to each other, one message a packet. Both are of one release."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

MAX_PACKET_BYTES = 128 * 1024
#: Keys in one order.
MAX_KEYS = 512


class _Said(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base."""


class Bring(_Said, frozen=True):
    """Bring that object here from a node. Answered with ``Ended``."""

    key: bytes
    node: bytes
    nbytes: int
    others: list[bytes] | None = None
    """The nodes that are to be asked, where the one that has made it is dead."""


class GiveUp(_Said, frozen=True):
    """End that transfer; it answers all the same."""

    key: bytes


class Gone(_Said, frozen=True):
    """That node is dead: what was to come from there may come from others."""

    node: bytes


class Remove(_Said, frozen=True):
    """Delete these objects from the store, or all whose keys begin with ``prefix``. Answered with ``Removed``."""

    number: int
    keys: list[bytes]
    prefix: bytes = b""


class Expect(_Said, frozen=True):
    """Somebody will come with this ticket."""

    id: bytes
    secret: bytes
    client: bytes
    server: bytes
    sealed: bool = False


class Way(_Said, frozen=True):
    """The answer to ``Ask``: where to connect to, and the ticket; or why there is none."""

    node: bytes
    host: str = ""
    port: int = 0
    id: bytes = b""
    secret: bytes = b""
    client: bytes = b""
    server: bytes = b""
    sealed: bool = False
    reason: str = ""
    store: str = ""
    """Address of the node's store, if the node is on this machine, so that it may be read from memory to memory."""


class Listens(_Said, frozen=True):
    """The object manager is there, and takes data connections at this port."""

    port: int


class Ask(_Said, frozen=True):
    """It needs one more connection to that node."""

    node: bytes


class Ended(_Said, frozen=True):
    """A transfer has ended: the object is here, or ``kind`` is one of those of ``ray.protocol.pulls``."""

    key: bytes
    kind: str = ""
    text: str = ""
    received: int = 0
    """Bytes that came over the network for it."""
    copied: int = 0
    """Bytes that came from the memory of another node of this machine."""
    bad_frames: int = 0
    """Frames that were not what they said."""
    full: tuple[int, int, int] = (0, 0, 0)
    """Where there is no room: the bytes needed, the size of the store, and what is in use of it."""


class Removed(_Said, frozen=True):
    """What that order named is gone."""

    number: int


class Served(_Said, frozen=True):
    """An object manager of another node has asked for an object, and was sent so much of it."""

    key: bytes
    node: bytes
    sent: int = 0
    busy: bool = False
    """It was told of others that have it."""
    bad_frames: int = 0
    """What came was not what it had sent: then it has asked for nothing."""


Order: TypeAlias = Bring | GiveUp | Gone | Remove | Expect | Way
Report: TypeAlias = Listens | Ask | Ended | Removed | Served

encode = msgspec.msgpack.Encoder().encode
decode_order = msgspec.msgpack.Decoder(Order).decode
decode_report = msgspec.msgpack.Decoder(Report).decode
