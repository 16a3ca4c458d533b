"""The form of a serialized value: one pickle, or a pickle and the large buffers beside it.

A blob without buffers is the plain pickle (its first byte is 0x80). With buffers it is a header, the pickle, and the
buffers, each at a multiple of 64 bytes from the start of the blob, so that arrays can be used in place::

    u8 0x01 · u8 version · u8 flags · u8 zero · u32 buffer count · u64 pickle length · u64 length of each buffer
"""

from __future__ import annotations

import io
import pickle
import struct
from array import array
from collections.abc import Iterable
from typing import Any

MAGIC = 0x01
VERSION = 1
ALIGNMENT = 64
#: Flag: some buffer belonged to a read-only object.
HAS_READONLY = 1

#: First byte of a pickle.
PICKLE = 0x80
#: The value of a blob that begins with PICKLE: nothing but a pickle.
load_pickle = pickle.loads
_STOP = pickle.STOP[0]

_HEAD = struct.Struct("<BBBBIQ")
_LENGTH = struct.Struct("<Q")
_PADDING = bytes(ALIGNMENT)
#: Blobs up to this size come beside their entries, wherever the memory of a message or of a bytes object begins.
_MAX_MOVED_BYTES = 128 * 1024

Blob = bytes | memoryview


class Serialized:
    """A value on its way out: its pickle, and large memory that still belongs to the value.

    That memory (buffers, and large byte strings inside the pickle) is borrowed: until ``to_bytes`` or ``write_into``
    has run, or the ``pieces`` are written, a change of the value shows in it. Nothing of the user's may run before that
    but what the value itself runs while it is pickled.
    """

    __slots__ = ("_pieces", "nbytes", "refs")

    nbytes: int
    """Size of the blob."""
    refs: list[Any]
    """The references met while pickling, in order."""

    def __init__(self, stream: bytes, refs: list[Any]) -> None:
        self._pieces: list[Blob] = [stream]
        self.nbytes = len(stream)
        self.refs = refs

    @classmethod
    def of_pieces(cls, pieces: list[Blob], refs: list[Any]) -> Serialized:
        """A value whose blob is these parts, joined: flat, of bytes, none of them empty."""
        made = cls.__new__(cls)
        made._pieces = pieces
        made.nbytes = sum(map(len, pieces))
        made.refs = refs
        return made

    @classmethod
    def with_buffers(cls, stream: list[Blob], refs: list[Any], buffers: list[memoryview]) -> Serialized:
        """A value whose ``buffers`` (flat, of bytes) travel beside the pickle, which is ``stream`` joined."""
        nbytes = sum(map(len, stream))
        flags = HAS_READONLY if any(buffer.readonly for buffer in buffers) else 0
        head = _HEAD.pack(MAGIC, VERSION, flags, 0, len(buffers), nbytes)
        pieces: list[Blob] = [head + struct.pack(f"<{len(buffers)}Q", *map(len, buffers)), *stream]
        end = len(pieces[0]) + nbytes
        for buffer in buffers:
            padding = -end % ALIGNMENT
            if padding:
                pieces.append(_PADDING[:padding])
            if len(buffer):
                pieces.append(buffer)
            end += padding + len(buffer)
        made = cls.__new__(cls)
        made._pieces = pieces
        made.nbytes = end
        made.refs = refs
        return made

    def to_bytes(self) -> bytes:
        """The blob, as bytes of its own."""
        pieces = self._pieces
        if len(pieces) == 1 and type(pieces[0]) is bytes:
            return pieces[0]
        return b"".join(pieces)

    def snapshot(self) -> Serialized:
        """The same with memory of its own, for callers that write it later."""
        return Serialized(self.to_bytes(), self.refs)

    def write_into(self, view: memoryview) -> None:
        """Write the blob into ``view``, whose size is ``nbytes`` and whose items are bytes."""
        position = 0
        for piece in self._pieces:
            end = position + len(piece)
            view[position:end] = piece
            position = end

    def pieces(self) -> list[Blob]:
        """The blob in parts, in order: flat, of bytes, none empty, together ``nbytes`` long. Not to be changed."""
        return self._pieces


def deserialize(blob: Blob) -> Any:
    """The value of a blob. Its arrays are read-only views into ``blob``, which they keep alive.

    Raises:
        ValueError: the blob is damaged, or of another version.
        Exception: whatever the value's own classes raise while they are rebuilt.
    """
    if blob and blob[0] == PICKLE:
        return pickle.loads(blob)
    stream, buffers, _ = split(blob)
    return pickle.loads(stream, buffers=buffers)


def deserialize_aligned(blob: Blob) -> Any:
    """As ``deserialize``; a small blob, which may begin anywhere, is copied to where its arrays are aligned."""
    if blob and blob[0] == PICKLE:
        return pickle.loads(blob)
    return deserialize(blob if len(blob) > _MAX_MOVED_BYTES else _aligned(blob))


def _aligned(blob: Blob) -> memoryview:
    """A copy whose address is a multiple of ALIGNMENT, as that of a large value in a store is."""
    nbytes = len(blob)
    memory = array("B", _PADDING) * (nbytes // ALIGNMENT + 2)
    start = -memory.buffer_info()[0] % ALIGNMENT
    view = memoryview(memory)[start : start + nbytes]
    view[:] = blob
    return view


def deserialize_copy(blob: Blob) -> Any:
    """As ``deserialize``, with writable arrays of their own memory."""
    if blob and blob[0] == PICKLE:
        return pickle.loads(blob)
    stream, buffers, flags = split(blob)
    copies = map(bytearray, buffers)
    if flags & HAS_READONLY:
        return _WritableUnpickler(stream, copies).load()
    return pickle.loads(stream, buffers=copies)


def split(blob: Blob) -> tuple[memoryview, list[memoryview], int]:
    """The pickle, the buffers (read-only views) and the flags of a blob with buffers.

    Nothing is allocated by what the header says before it was found to agree with the size of the blob.

    Raises:
        ValueError: the blob is damaged, or of another version.
    """
    view = memoryview(blob).toreadonly()
    total = len(view)
    if total < _HEAD.size:
        raise ValueError(f"a serialized value is cut short: {total} bytes")
    magic, version, flags, zero, count, length = _HEAD.unpack_from(view)
    if magic != MAGIC or version != VERSION:
        raise ValueError(f"not a serialized value of version {VERSION}: it begins with {bytes(view[:2]).hex()}")
    if flags & ~HAS_READONLY or zero or not count:
        raise ValueError(f"the header of a serialized value is damaged: {bytes(view[: _HEAD.size]).hex()}")
    start = _HEAD.size + _LENGTH.size * count
    end = start + length
    if end > total:
        raise ValueError(f"a serialized value is cut short: {total} bytes, {end} expected")
    lengths = struct.unpack_from(f"<{count}Q", view, _HEAD.size)
    stream = view[start:end]
    if length < 2 or stream[0] != PICKLE or stream[-1] != _STOP:
        raise ValueError(f"the pickle of a serialized value is not where its header says: bytes {start} to {end}")
    buffers = []
    for nbytes in lengths:
        before, begin = end, end + -end % ALIGNMENT
        end = begin + nbytes
        if end > total:
            raise ValueError(f"a serialized value is cut short: {total} bytes, {end} expected")
        if view[before:begin] != _PADDING[: begin - before]:
            raise ValueError(f"a serialized value is damaged between its bytes {before} and {begin}")
        buffers.append(view[begin:end])
    if end != total:
        raise ValueError(f"a serialized value has {total} bytes where its header says {end}")
    return stream, buffers, flags


def pickle_of(blob: Blob) -> memoryview:
    """The pickle in a blob, without the large buffers beside it.

    Raises:
        ValueError: as ``deserialize``.
    """
    if blob and blob[0] == PICKLE:
        return memoryview(blob).toreadonly()
    return split(blob)[0]


class _WritableUnpickler(pickle._Unpickler):
    """Gives writable buffers also to objects that were read-only; the C unpickler cannot be told to."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: memoryview, buffers: Iterable[bytearray]) -> None:
        super().__init__(io.BytesIO(stream), buffers=buffers)

    def load_readonly_buffer(self: Any) -> None:
        """Leave the buffer on the stack writable."""

    dispatch[pickle.READONLY_BUFFER[0]] = load_readonly_buffer
