"""The form of a serialized value: one pickle, or a pickle and the large buffers beside it.

A blob without buffers is the plain pickle (its first byte is 0x80). With buffers it is a header, the pickle, and the
buffers, each at a multiple of 64 bytes from the start of the blob, so that arrays can be used in place::

    u8 0x01 · u8 version · u8 flags · u8 zero · u32 buffer count · u64 pickle length · u64 length of each buffer
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Iterable
from typing import Any

MAGIC = 0x01
VERSION = 1
ALIGNMENT = 64
#: Flag: some buffer belonged to a read-only object.
HAS_READONLY = 1

_HEAD = struct.Struct("<BBBxIQ")
_LENGTH = struct.Struct("<Q")
_PADDING = bytes(ALIGNMENT)

Blob = bytes | memoryview


class Serialized:
    """A value on its way out: the pickle, and buffers that still belong to the value.

    Buffers are borrowed: until ``to_bytes`` or ``write_into`` has run, a change of the value shows in them.
    """

    __slots__ = ("_buffers", "_flags", "_offsets", "_pickle", "nbytes", "refs")

    nbytes: int
    """Size of the blob."""
    refs: list[Any]
    """The references met while pickling, in order."""
    _flags: int
    _offsets: list[int]

    def __init__(self, stream: bytes, refs: list[Any]) -> None:
        self._pickle = stream
        self._buffers: list[memoryview] | None = None
        self.nbytes = len(stream)
        self.refs = refs

    @classmethod
    def with_buffers(cls, stream: bytes, refs: list[Any], buffers: list[memoryview], has_readonly: bool) -> Serialized:
        """A value whose ``buffers`` (flat, of bytes) travel beside the pickle."""
        made = cls(stream, refs)
        made._buffers = buffers
        made._flags = HAS_READONLY if has_readonly else 0
        end = _HEAD.size + _LENGTH.size * len(buffers) + len(stream)
        offsets = []
        for buffer in buffers:
            start = -(-end // ALIGNMENT) * ALIGNMENT
            offsets.append(start)
            end = start + len(buffer)
        made._offsets = offsets
        made.nbytes = end
        return made

    def to_bytes(self) -> bytes:
        """The blob, as bytes of its own."""
        if self._buffers is None:
            return self._pickle
        return b"".join(self.pieces())

    def write_into(self, view: memoryview) -> None:
        """Write the blob into ``view``, whose size is ``nbytes`` and whose items are bytes."""
        position = 0
        for piece in self.pieces():
            end = position + len(piece)
            view[position:end] = piece
            position = end

    def pieces(self) -> list[Blob]:
        """The blob in parts, in order: flat, of bytes; together ``nbytes`` long."""
        if self._buffers is None:
            return [self._pickle]
        pieces = [self._header(self._buffers), self._pickle]
        position = len(pieces[0]) + len(self._pickle)
        for offset, buffer in zip(self._offsets, self._buffers, strict=True):
            pieces += (_PADDING[: offset - position], buffer)
            position = offset + len(buffer)
        return pieces

    def _header(self, buffers: list[memoryview]) -> Blob:
        head = _HEAD.pack(MAGIC, VERSION, self._flags, len(buffers), len(self._pickle))
        return head + struct.pack(f"<{len(buffers)}Q", *map(len, buffers))


def deserialize(blob: Blob) -> Any:
    """The value of a blob. Its arrays are read-only views into ``blob``, which they keep alive.

    Raises:
        ValueError: the blob is damaged, or of another version.
        Exception: whatever the value's own classes raise while they are rebuilt.
    """
    if blob[0] != MAGIC:
        return pickle.loads(blob)
    stream, buffers, _ = split(blob)
    return pickle.loads(stream, buffers=buffers)


def deserialize_copy(blob: Blob) -> Any:
    """As ``deserialize``, with writable arrays of their own memory."""
    if blob[0] != MAGIC:
        return pickle.loads(blob)
    stream, buffers, flags = split(blob)
    copies = map(bytearray, buffers)
    if flags & HAS_READONLY:
        return _WritableUnpickler(stream, copies).load()
    return pickle.loads(stream, buffers=copies)


def split(blob: Blob) -> tuple[memoryview, list[memoryview], int]:
    """The pickle, the buffers (read-only views) and the flags of a blob with buffers.

    Raises:
        ValueError: the blob is damaged, or of another version.
    """
    view = memoryview(blob).toreadonly()
    total = len(view)
    if total < _HEAD.size:
        raise ValueError(f"a serialized value is cut short: {total} bytes")
    magic, version, flags, count, length = _HEAD.unpack_from(view)
    if magic != MAGIC or version != VERSION:
        raise ValueError(f"not a serialized value of version {VERSION}: it begins with {bytes(view[:2]).hex()}")
    start = _HEAD.size + _LENGTH.size * count
    if start + length > total:
        raise ValueError(f"a serialized value is cut short: {total} bytes, {start + length} expected")
    lengths = struct.unpack_from(f"<{count}Q", view, _HEAD.size)
    end = start + length
    stream = view[start:end]
    buffers = []
    for nbytes in lengths:
        begin = -(-end // ALIGNMENT) * ALIGNMENT
        end = begin + nbytes
        if end > total:
            raise ValueError(f"a serialized value is cut short: {total} bytes, {end} expected")
        buffers.append(view[begin:end])
    return stream, buffers, flags


class _WritableUnpickler(pickle._Unpickler):
    """Gives writable buffers also to objects that were read-only; the C unpickler cannot be told to."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: memoryview, buffers: Iterable[bytearray]) -> None:
        super().__init__(io.BytesIO(stream), buffers=buffers)

    def load_readonly_buffer(self: Any) -> None:
        """Leave the buffer on the stack writable."""

    dispatch[pickle.READONLY_BUFFER[0]] = load_readonly_buffer
