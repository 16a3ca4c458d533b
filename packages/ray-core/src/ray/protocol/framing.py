"""Messages on a byte stream.

A message is ``<u32 frames> <u64 length of each>`` and the frames. Small frames are cut out of what was read, as
``bytes``; large ones are received in place.

What has been read so far is a value: reading goes from one to the next, and nothing is changed on the way but memory
that the next one describes. So a call that interrupts another one between two steps may do the same work. The
first of the two replaces the value, and the other one throws its result away.
"""

from __future__ import annotations

import mmap
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from ray.exceptions import RemoteProtocolError

_ONE = struct.Struct("<IQ")
#: ``(1, length)``: the head of a message of one frame.
head_of_one = _ONE.pack
split_head = _ONE.unpack_from
HEAD_OF_ONE_BYTES = _ONE.size
_COUNT = struct.Struct("<I")

#: Frames from this size on are received into memory of their own.
IN_PLACE_BYTES = 64 * 1024
MAX_FRAMES = 16_000
MAX_HEAD_BYTES = 256 * 1024 * 1024
MAX_FRAME_BYTES = 1 << 42
_MAPPED_BYTES = 1 << 20
#: Read at once, at most.
READ_BYTES = 64 * 1024


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


class InPlace:
    """A large frame that is being received: its memory, and how much of it is filled."""

    __slots__ = ("filled", "memory")

    def __init__(self, memory: memoryview, filled: int) -> None:
        self.memory = memory
        #: One number; a container, so that it can be replaced by what is not Python code.
        self.filled = deque((filled,), 1)


class Received(NamedTuple):
    """What has been read of a stream, but for the messages that are complete."""

    #: Bytes of the message being received that are no whole head, or no whole frame.
    rest: bytes = b""
    #: Lengths of its frames; empty between messages.
    lengths: tuple[int, ...] = ()
    frames: tuple[Any, ...] = ()
    #: The next frame, if it is large.
    large: InPlace | None = None


NOTHING = Received()


def take(state: Received, chunk: bytes) -> tuple[Received, list[list[Any]]]:
    """The bytes that follow on the stream: the next state, and the messages that are complete.

    Raises:
        RemoteProtocolError: the stream is not made of messages; it cannot be used any further.
    """
    rest, lengths, frames, large = state
    messages: list[list[Any]] = []
    start = 0
    if large is not None:
        filled = large.filled[0]
        start = min(len(chunk), len(large.memory) - filled)
        large.memory[filled : filled + start] = chunk[:start]
        if filled + start < len(large.memory):
            return Received(b"", lengths, frames, InPlace(large.memory, filled + start)), messages
        frames += (large.memory.toreadonly(),)
        if len(frames) == len(lengths):
            messages.append(list(frames))
            lengths, frames = (), ()
        large = None
    data = rest + chunk if rest else chunk
    end = len(data)
    parts = list(frames)
    while True:
        if not lengths:
            if end - start < 12:
                break
            count, first = _ONE.unpack_from(data, start)
            if not 0 < count <= MAX_FRAMES or first > MAX_HEAD_BYTES:
                raise RemoteProtocolError(f"message of {count} frames, the first of {first} bytes")
            if count == 1:
                if first <= end - start - 12:
                    start += 12 + first
                    messages.append([data[start - first : start]])
                    continue
                lengths = (first,)
            else:
                if end - start < 4 + 8 * count:
                    break
                lengths = struct.unpack_from(f"<{count}Q", data, start + 4)
                if max(lengths) > MAX_FRAME_BYTES:
                    raise RemoteProtocolError(f"frame of {max(lengths)} bytes")
            start += 4 + 8 * count
        length = lengths[len(parts)]
        if length <= end - start:
            parts.append(data[start : start + length])
            start += length
        elif length < IN_PLACE_BYTES:
            break
        else:
            memory = _memory(length)
            memory[: end - start] = data[start:]
            large = InPlace(memory, end - start)
            start = end
            break
        if len(parts) == len(lengths):
            messages.append(parts)
            parts, lengths = [], ()
    if start == end and not lengths:
        return NOTHING, messages
    return Received(data[start:], lengths, tuple(parts), large), messages


def take_large(state: Received) -> tuple[Received, list[list[Any]]]:
    """The same, once a large frame has been filled from outside."""
    assert state.large is not None
    frames = (*state.frames, state.large.memory.toreadonly())
    if len(frames) == len(state.lengths):
        return Received(), [list(frames)]
    return Received(b"", state.lengths, frames), []
