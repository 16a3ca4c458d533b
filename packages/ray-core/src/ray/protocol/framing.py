"""Messages on a byte stream.

A message is ``<u32 frames> <u64 length of each>`` and the frames. The reader asks for memory to fill and is told how
much was filled; large frames are received in place, small ones come out of one reused buffer as ``bytes``.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from typing import Any

from ray.exceptions import RemoteProtocolError

_ONE = struct.Struct("<IQ")
_COUNT = struct.Struct("<I")

#: Frames from this size on are received into memory of their own.
IN_PLACE_BYTES = 64 * 1024
MAX_FRAMES = 16_000
MAX_HEAD_BYTES = 256 * 1024 * 1024
MAX_FRAME_BYTES = 1 << 42
_MAPPED_BYTES = 1 << 20
_FIRST_BUFFER_BYTES = 4 * 1024
_LAST_BUFFER_BYTES = 256 * 1024


def head(frames: Sequence[Any]) -> bytes:
    """The bytes that precede ``frames`` on the stream."""
    if len(frames) == 1:
        return _ONE.pack(1, len(frames[0]))
    lengths = [frame.nbytes if type(frame) is memoryview else len(frame) for frame in frames]
    return struct.pack(f"<I{len(lengths)}Q", len(lengths), *lengths)


def _memory(nbytes: int) -> memoryview:
    try:
        return memoryview(mmap.mmap(-1, nbytes) if nbytes >= _MAPPED_BYTES else bytearray(nbytes))
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise RemoteProtocolError(f"no memory for a frame of {nbytes} bytes") from error


class FrameReader:
    """Bytes in, messages out; pure."""

    def __init__(self) -> None:
        self._buffer = bytearray(_FIRST_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        #: Lengths of the frames of the message being received; empty between messages.
        self._lengths: tuple[int, ...] = ()
        self._frames: list[Any] = []
        self._target: memoryview | None = None
        self._filled = 0

    def free(self) -> memoryview:
        """Memory for the next bytes of the stream; never empty."""
        if self._target is not None:
            return self._target[self._filled :]
        if self._end == len(self._buffer):
            self._make_room()
        return self._view[self._end :]

    def _make_room(self) -> None:
        """The buffer is full up to its end: grow it while it is small, and move what is unread to the front."""
        pending = bytes(self._view[self._start : self._end])
        size = len(self._buffer)
        if size < _LAST_BUFFER_BYTES or len(pending) == size:
            self._buffer = bytearray(size * 4)
            self._view = memoryview(self._buffer)
        self._view[: len(pending)] = pending
        self._start, self._end = 0, len(pending)

    def filled(self, nbytes: int) -> list[list[Any]]:
        """``nbytes`` of ``free`` are filled now; returns the messages that are complete.

        Raises:
            RemoteProtocolError: the stream is not made of messages; it cannot be used any further.
        """
        messages: list[list[Any]] = []
        if self._target is not None:
            self._filled += nbytes
            if self._filled < len(self._target):
                return messages
            self._frames.append(self._target.toreadonly())
            self._target = None
            if len(self._frames) == len(self._lengths):
                self._finish(messages)
                return messages
        else:
            self._end += nbytes
        self._parse(messages)
        if self._start == self._end and self._end < len(self._buffer):
            self._start = self._end = 0
        return messages

    def _finish(self, messages: list[list[Any]]) -> None:
        messages.append(self._frames)
        self._frames = []
        self._lengths = ()

    def _parse(self, messages: list[list[Any]]) -> None:
        buffer = self._buffer
        start, end = self._start, self._end
        while True:
            if not self._lengths:
                if end - start < 12:
                    break
                count, first = _ONE.unpack_from(buffer, start)
                size = 4 + 8 * count
                if not 0 < count <= MAX_FRAMES or first > MAX_HEAD_BYTES:
                    raise RemoteProtocolError(f"message of {count} frames, the first of {first} bytes")
                if count == 1:
                    if first <= end - start - 12:
                        start += 12 + first
                        messages.append([bytes(self._view[start - first : start])])
                        continue
                    self._lengths = (first,)
                else:
                    if end - start < size:
                        break
                    self._lengths = struct.unpack_from(f"<{count}Q", buffer, start + 4)
                    if max(self._lengths) > MAX_FRAME_BYTES:
                        raise RemoteProtocolError(f"frame of {max(self._lengths)} bytes")
                start += size
            length = self._lengths[len(self._frames)]
            if length <= end - start:
                self._frames.append(bytes(self._view[start : start + length]))
                start += length
            elif length < IN_PLACE_BYTES:
                break
            else:
                target = _memory(length)
                target[: end - start] = self._view[start:end]
                self._target, self._filled = target, end - start
                start = end
                break
            if len(self._frames) == len(self._lengths):
                self._finish(messages)
        self._start = start
        self._end = end
