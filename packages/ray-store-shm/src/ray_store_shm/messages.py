"""What clients and the broker say: one msgpack array for each packet.

Requests with a ``number`` are answered by a reply of the same number. An object is named by id until the broker has
given it a serial, which is never used again; its memory travels as a descriptor beside the packet.
"""

from __future__ import annotations

import struct
from typing import Annotated, TypeAlias

import msgspec

PROTOCOL = 2
MAX_PACKET_BYTES = 64 * 1024
#: Objects in one ``Listed``, and pids of holders for each.
MAX_LISTED = 256
MAX_HOLDERS = 16

Id: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
ProcessId: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**60)]


class Message(msgspec.Struct, array_like=True, tag=True, gc=False, frozen=True):
    """Base of all."""


class Reserve(Message, frozen=True):
    """Room for an object: ``Reserved``, or ``Refused``: ``exists``, ``full``; ``wait`` if it is not ``patient``.

    ``afresh``: in new memory, whatever the client keeps.
    """

    number: Count
    object_id: Id
    nbytes: Count
    patient: bool = True
    afresh: bool = False


class Seal(Message, frozen=True):
    """It is written. Its descriptor comes along, unless it is in a segment that was used before. Not answered.

    ``keeps``: the creator keeps a mapping, and can use the segment again.
    """

    serial: Count
    keeps: bool = False


class Keep(Message, frozen=True):
    """The client keeps so many segments at most. Not answered.

    A socket comes along, on which it hears an ``ORDER`` when it is to do something with one.
    """

    limit: Count


class Abort(Message, frozen=True):
    """Its creator gives up. Not answered."""

    serial: Count


class Get(Message, frozen=True):
    """``Found``, with the descriptor unless the client has ``known`` mapped, or ``Answer(False)``."""

    number: Count
    object_id: Id
    known: Count


class Contains(Message, frozen=True):
    """``Answer``."""

    number: Count
    object_id: Id


class Release(Message, frozen=True):
    """Ends ``holds`` holds; each ``Found`` is one. Not answered.

    ``forked``: a child of the client may see the object for longer, so nobody may use its memory again.
    """

    serial: Count
    holds: Count
    forked: bool = False


class Delete(Message, frozen=True):
    """Of any object. Not answered."""

    object_id: Id


class Stats(Message, frozen=True):
    """``Counted``."""

    number: Count


class List(Message, frozen=True):
    """``Listed``: objects with serials above ``after``."""

    number: Count
    after: Count


class Subscribe(Message, frozen=True):
    """Told on the second descriptor. Not answered."""

    object_id: Id


class Unsubscribe(Message, frozen=True):
    """Do not tell. Not answered."""

    object_id: Id


class OwnerLost(Message, frozen=True):
    """From the node manager only. Not answered."""

    process_id: ProcessId


Request: TypeAlias = (
    Reserve
    | Seal
    | Keep
    | Abort
    | Get
    | Contains
    | Release
    | Delete
    | Stats
    | List
    | Subscribe
    | Unsubscribe
    | OwnerLost
)


class Welcome(Message, frozen=True):
    """The first packet of the broker; the descriptor for notifications comes along."""

    number: int
    protocol: int
    capacity_bytes: int
    reuses: bool = False


class Reserved(Message, frozen=True):
    """Write it, then seal it; in new memory, or in a ``segment`` that the client keeps."""

    number: int
    serial: int
    segment: int = 0


class Found(Message, frozen=True):
    """Sealed, and held by the client until it releases it."""

    number: int
    serial: int
    nbytes: int


class Answer(Message, frozen=True):
    """Yes or no."""

    number: int
    yes: bool


class Refused(Message, frozen=True):
    """``why``: ``exists``, ``full``, ``descriptors``, or ``clients`` in place of a ``Welcome``; ``text`` says more."""

    number: int
    why: str
    text: str = ""
    used_bytes: int = 0


class Counted(Message, frozen=True):
    """As ``StoreStats``."""

    number: int
    objects: int
    used_bytes: int
    capacity_bytes: int


class Listed(Message, frozen=True):
    """``(object id, size, state, pids)`` of each, by serial; ``next`` is what to ask after, or 0 at the end."""

    number: int
    objects: list[tuple[bytes, int, str, list[int]]]
    next: int


Reply: TypeAlias = Welcome | Reserved | Found | Answer | Refused | Counted | Listed

encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode
#: On the socket of ``Keep``: a segment, and the serial of the object in it while which is there the mapping is to be
#: protected; or 0 if it is to be forgotten.
ORDER = struct.Struct("<QQ")
#: A packet of the second descriptor: ``(object id, size in bytes or -1)`` of each.
decode_notifications = msgspec.msgpack.Decoder(list[tuple[bytes, int]]).decode
