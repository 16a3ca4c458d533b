"""What clients and the server say to each other: one msgpack array for each packet of a ``SOCK_SEQPACKET`` socket.

Requests with a ``number`` are answered by a reply of the same number, all others are not. A client never says where an
object lies: it names objects by id before they are its own, and by the serial that the server gave it afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeAlias

import msgspec

PROTOCOL = 1
#: No packet is longer.
MAX_PACKET_BYTES = 64 * 1024
#: Serials in one ``Release``.
MAX_SERIALS = 1024
#: Objects in one ``Listed``, and pids of holders for each.
MAX_LISTED = 256
MAX_HOLDERS = 16
#: Of this many bytes each object has a head in front of it, whose first eight are its serial as long as it exists.
HEAD_BYTES = 64

Id: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
ProcessId: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
#: Msgpack has no larger ones; sums of a few of them are still exact wherever they go.
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**60)]


class Message(msgspec.Struct, array_like=True, tag=True, gc=False):
    """Base of all."""


# Requests that are answered.


class Create(Message):
    """``Granted``, or ``Refused``: ``exists``, ``full``, ``disk``; ``wait`` if it is not ``patient``."""

    number: Count
    object_id: Id
    nbytes: Count
    patient: bool = True


class Get(Message):
    """``Found``, ``Answer(False)``, or ``Refused``: ``full``, ``disk``, ``lost``; ``wait`` if it is not ``patient``.

    Each ``Found`` is to be released.
    """

    number: Count
    object_id: Id
    patient: bool = True


class Contains(Message):
    """``Answer``."""

    number: Count
    object_id: Id


class Pin(Message):
    """``Answer``."""

    number: Count
    object_id: Id


class Stats(Message):
    """``Counted``."""

    number: Count


class List(Message):
    """``Listed``: the objects with serials above ``after``."""

    number: Count
    after: Count


# Requests that are not.


class Seal(Message):
    """The creator has written it."""

    serial: Count


class Abort(Message):
    """The creator gives up."""

    serial: Count


class Release(Message):
    """One hold for each time that a serial is named."""

    serials: Annotated[list[Count], msgspec.Meta(max_length=MAX_SERIALS)]


class Delete(Message):
    """Of any object, created by any client."""

    object_id: Id


class Unpin(Message):
    """Of a sealed object."""

    object_id: Id


class Subscribe(Message):
    """Told on the second descriptor."""

    object_id: Id


class Unsubscribe(Message):
    """Do not tell."""

    object_id: Id


class Leave(Message):
    """The client closes; what it holds still, it holds until its socket closes too."""


class OwnerLost(Message):
    """From the node manager only."""

    process_id: ProcessId


Request: TypeAlias = (
    Create
    | Get
    | Contains
    | Pin
    | Stats
    | List
    | Seal
    | Abort
    | Release
    | Delete
    | Unpin
    | Subscribe
    | Unsubscribe
    | Leave
    | OwnerLost
)


# Replies.


class Welcome(Message):
    """The first packet; the descriptors of the arena and of the notifications come with it."""

    number: int
    protocol: int
    capacity_bytes: int
    spill_dir: str


class Granted(Message):
    """Write ``nbytes`` at ``offset``. ``cold``: the kernel has given no pages for some of it yet."""

    number: int
    serial: int
    offset: int
    nbytes: int
    cold: bool


class Found(Message):
    """Sealed, and at ``offset`` until it is released."""

    number: int
    serial: int
    offset: int
    nbytes: int


class Answer(Message):
    """Yes or no."""

    number: int
    yes: bool


class Refused(Message):
    """``why`` is ``exists``, ``full``, ``disk``, ``wait`` or ``lost``; ``text`` says more."""

    number: int
    why: str
    text: str = ""
    needed_bytes: int = 0
    used_bytes: int = 0


class Counted(Message):
    """As ``StoreStats``."""

    number: int
    objects: int
    used_bytes: int
    capacity_bytes: int
    spilled_bytes: int


class Listed(Message):
    """``(object id, size, state, pids)`` of each, by serial; ``next`` is what to ask after, or 0 at the end."""

    number: int
    objects: list[tuple[bytes, int, str, list[int]]]
    next: int


Reply: TypeAlias = Welcome | Granted | Found | Answer | Refused | Counted | Listed

#: Makes a request of the number that it is to have.
Make: TypeAlias = Callable[[int], Message]

encode = msgspec.msgpack.Encoder().encode
_request = msgspec.msgpack.Decoder(Request).decode
_reply = msgspec.msgpack.Decoder(Reply).decode
_notifications = msgspec.msgpack.Decoder(list[tuple[bytes, int]]).decode
#: What the decoders raise; text that is not UTF-8 is not among their own errors.
_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)


class MalformedError(ValueError):
    """A packet is no message."""


def decode_request(packet: bytes) -> Request:
    """Raises MalformedError."""
    try:
        request: Request = _request(packet)
        return request
    except _MALFORMED as error:
        raise MalformedError(str(error)) from error


def decode_reply(packet: bytes) -> Reply:
    """Raises MalformedError."""
    try:
        reply: Reply = _reply(packet)
        return reply
    except _MALFORMED as error:
        raise MalformedError(str(error)) from error


def decode_notifications(packet: bytes) -> list[tuple[bytes, int]]:
    """``(object id, size in bytes or -1)`` of each, from a packet of the second descriptor. Raises MalformedError."""
    try:
        return _notifications(packet)
    except _MALFORMED as error:
        raise MalformedError(str(error)) from error
