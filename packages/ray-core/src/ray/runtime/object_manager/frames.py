"""What travels over a data connection: requests for objects, and their bytes in frames that say what they are.

A frame is a header and up to ``FRAME_BYTES`` of an object. A checksum tells of accidents, of nothing else: that of the
whole frame of bytes that change on their way, and that of samples of what is in the wrong place. Between processes of
one machine, where bytes go from memory to memory and TCP has its own checksum, samples do: measured for 1 GiB, the
CRC of all took more time than everything else (0.25 s at each end, of 0.3 to 0.4 s).
"""

from __future__ import annotations

import socket
import struct
import zlib
from typing import NamedTuple

from ray.ids import OBJECT_ID_BYTES

#: Of an object, in one frame, at most.
FRAME_BYTES = 1 << 20
#: Of the reason in a refusal.
MAX_REASON_BYTES = 1000
#: What a frame holds: bytes of the object; nothing, as the sender is still reading it; a reason why there are none;
#: bytes of the object whose checksum is that of samples; the numbers of other nodes that have it, at least in part;
#: the same, as this one has others to send it to.
DATA, WAIT, REFUSED, SAMPLED, HOLDERS, BUSY = range(6)
#: So many bytes are a sample, and so far is it from one to the next.
_SAMPLE_BYTES, _STRIDE_BYTES = 256, 64 * 1024

_HEADER = struct.Struct("!IQIIII")
HEADER_BYTES = _HEADER.size
_REQUEST = struct.Struct(f"!I{OBJECT_ID_BYTES}sQQI")
REQUEST_BYTES = _REQUEST.size


class ChangedError(ConnectionError):
    """What came is not what was sent."""


class Request(NamedTuple):
    """Send the object under ``key``, of ``nbytes`` in all, from ``offset`` on."""

    stream: int
    """Chosen by who asks; the frames of the answer bear it."""
    key: bytes
    offset: int
    nbytes: int

    def to_bytes(self) -> bytes:
        """As it travels."""
        head = _REQUEST.pack(*self, 0)
        return _REQUEST.pack(*self, zlib.crc32(head))

    @classmethod
    def from_bytes(cls, data: bytes) -> Request:
        """Undo ``to_bytes``.

        Raises:
            ChangedError: it is no request.
        """
        stream, key, offset, nbytes, checksum = _REQUEST.unpack(data)
        request = cls(stream, key, offset, nbytes)
        if zlib.crc32(_REQUEST.pack(*request, 0)) != checksum or offset > nbytes:
            raise ChangedError("what came is no request for an object")
        return request


class Header(NamedTuple):
    """Of a frame."""

    stream: int
    offset: int
    length: int
    kind: int
    checksum: int
    """See ``checksum``."""

    def to_bytes(self) -> bytes:
        """As it travels, with a checksum of its own."""
        return _HEADER.pack(*self, zlib.crc32(_HEADER.pack(*self, 0)))

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """Undo ``to_bytes``.

        Raises:
            ChangedError: it is no header.
        """
        *fields, checksum = _HEADER.unpack(data)
        header = cls(*fields)
        if zlib.crc32(_HEADER.pack(*header, 0)) != checksum or header.length > FRAME_BYTES:
            raise ChangedError("what came is no frame of an object")
        return header


def checksum(data: bytes | memoryview, kind: int) -> int:
    """Of what a frame of that kind holds."""
    if kind != SAMPLED:
        return zlib.crc32(data)
    found = zlib.crc32(data[-_SAMPLE_BYTES:])
    for start in range(0, len(data), _STRIDE_BYTES):
        found = zlib.crc32(data[start : start + _SAMPLE_BYTES], found)
    return found


def receive_exactly(connection: socket.socket, into: memoryview) -> None:
    """Fill ``into``.

    Raises:
        OSError: it did not come, or took longer than the connection allows for a part of it.
    """
    have, nbytes = 0, len(into)
    while have < nbytes:
        count = connection.recv_into(into[have:], nbytes - have, socket.MSG_WAITALL)
        if not count:
            raise ConnectionError("the other end has closed the connection")
        have += count


def receive_bytes(connection: socket.socket, nbytes: int) -> bytes:
    """So many bytes. Raises OSError as ``receive_exactly``."""
    data = connection.recv(nbytes, socket.MSG_WAITALL)
    if not data:
        raise ConnectionError("the other end has closed the connection")
    return data if len(data) == nbytes else data + receive_bytes(connection, nbytes - len(data))


def limit_waits(connection: socket.socket, receive_s: float, send_s: float) -> None:
    """Have calls that wait longer than this for the other end raise BlockingIOError; the socket blocks otherwise."""
    for option, seconds in ((socket.SO_RCVTIMEO, receive_s), (socket.SO_SNDTIMEO, send_s)):
        whole = int(seconds)
        connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", whole, int((seconds - whole) * 1e6)))
