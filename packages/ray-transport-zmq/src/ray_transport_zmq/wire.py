"""Messages as units of ZeroMQ: small frames together, large ones in pieces. Pure.

A unit begins with a byte that tells its kind:

- ``SINGLE``: a message of one small frame, which follows;
- ``MESSAGE``: ``<u32 frames> <u64 length of each>`` and the small frames; the highest bit of a length says that the
  frame comes behind, in pieces;
- ``PIECE``: nothing; the second part of the unit is the piece, of ``PIECE_BYTES`` except for the last of a frame;
- ``CREDIT``: how much has been taken, see ``ray_transport_zmq.credit``;
- ``BYE``: nothing; the sender has closed the connection.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ray.exceptions import RemoteProtocolError

if TYPE_CHECKING:
    from ray.abc.transport import Frame

SINGLE, MESSAGE, PIECE, CREDIT, BYE = range(5)

#: (bytes of the last part, parts)
Unit: TypeAlias = "tuple[int, tuple[Any, ...]]"

#: Frames up to this size travel together.
SMALL_BYTES = 64 * 1024
#: So much of small frames in one unit; further ones travel as large ones do.
TOGETHER_BYTES = 256 * 1024
PIECE_BYTES = 4 * 1024 * 1024
#: The largest part of any unit.
MAX_PART_BYTES = PIECE_BYTES + 1024
MAX_FRAMES = 16_000
MAX_FRAME_BYTES = 1 << 42

_BEHIND = 1 << 63
_COUNT = struct.Struct("<BI")
_PIECE = bytes([PIECE])
BYE_UNIT: Unit = (1, (bytes([BYE]),))


def encode(frames: Sequence[Frame]) -> list[Unit]:
    """The units of one message; large frames are not copied."""
    if len(frames) == 1:
        frame = frames[0]
        nbytes = len(frame)
        if nbytes <= SMALL_BYTES and type(frame) is not memoryview:
            return [(nbytes + 1, (b"\0" + frame,))]
    lengths: list[int] = []
    together: list[Any] = [b""]
    behind: list[memoryview] = []
    total = 0
    for item in frames:
        view = memoryview(item).cast("B")
        nbytes = len(view)
        if nbytes <= SMALL_BYTES and total + nbytes <= TOGETHER_BYTES:
            lengths.append(nbytes)
            together.append(view)
            total += nbytes
        else:
            lengths.append(nbytes | _BEHIND)
            behind.append(view)
    together[0] = _COUNT.pack(MESSAGE, len(lengths)) + struct.pack(f"<{len(lengths)}Q", *lengths)
    head = b"".join(together)
    units: list[Unit] = [(len(head), (head,))]
    for view in behind:
        for start in range(0, len(view), PIECE_BYTES):
            piece = view[start : start + PIECE_BYTES]
            units.append((len(piece), (_PIECE, piece)))
    return units


def credit_unit(credit: bytes) -> Unit:
    """The unit that carries a credit; it needs none itself."""
    return len(credit), (bytes([CREDIT]) + credit,)


class Assembler:
    """Units of one peer in, messages out: where it has come to. What is taken twice does no harm."""

    __slots__ = ("_behind", "_filled", "_frames", "_target")

    def __init__(
        self,
        frames: list[Any] | None = None,
        behind: tuple[tuple[int, int], ...] = (),
        target: memoryview | None = None,
        filled: int = 0,
    ) -> None:
        """``behind``: (place among the frames, length) of those that are still to come, the next one last."""
        self._frames = frames or []
        self._behind = behind
        self._target = target
        self._filled = filled

    def head(self, data: bytes) -> tuple[Assembler, list[Any] | None]:
        """Take the first part of a ``SINGLE`` or ``MESSAGE`` unit.

        Returns:
            What takes the next unit, and the message if that was all of it.

        Raises:
            RemoteProtocolError: this cannot come now, or is not well formed.
        """
        if self._behind:
            raise RemoteProtocolError("a message begins inside another one")
        if data[0] == SINGLE:
            return self, [data[1:]]
        try:
            _, count = _COUNT.unpack_from(data)
            if not count or count > MAX_FRAMES:
                raise RemoteProtocolError(f"message of {count} frames")
            lengths = struct.unpack_from(f"<{count}Q", data, _COUNT.size)
        except struct.error as error:
            raise RemoteProtocolError(f"message head of {len(data)} bytes: {error}") from None
        start = _COUNT.size + 8 * count
        frames: list[Any] = []
        behind: list[tuple[int, int]] = []
        for place, length in enumerate(lengths):
            if length & _BEHIND:
                if not 0 < length ^ _BEHIND <= MAX_FRAME_BYTES:
                    raise RemoteProtocolError(f"frame of {length ^ _BEHIND} bytes")
                behind.append((place, length ^ _BEHIND))
                frames.append(None)
            else:
                frames.append(data[start : start + length])
                start += length
        if start != len(data):
            raise RemoteProtocolError(f"frames end at {start} of {len(data)} bytes")
        if not behind:
            return self, frames
        return Assembler(frames, tuple(reversed(behind))), None

    def piece(self, piece: memoryview) -> tuple[Assembler, list[Any] | None]:
        """Take the second part of a ``PIECE`` unit, to keep.

        Returns:
            What takes the next unit, and the message if it is complete.

        Raises:
            RemoteProtocolError: no piece of this size is due.
        """
        if not self._behind:
            raise RemoteProtocolError("a piece of no message")
        place, length = self._behind[-1]
        if len(piece) != min(PIECE_BYTES, length - self._filled):
            raise RemoteProtocolError(f"piece of {len(piece)} bytes at {self._filled} of {length}")
        frames = self._frames
        if length <= PIECE_BYTES:
            frames[place] = piece
        else:
            target = self._target or _memory(length)
            filled = self._filled + len(piece)
            target[self._filled : filled] = piece
            if filled < length:
                return Assembler(frames, self._behind, target, filled), None
            frames[place] = target.toreadonly()
        if len(self._behind) > 1:
            return Assembler(frames, self._behind[:-1]), None
        return Assembler(), frames


def _memory(nbytes: int) -> memoryview:
    try:
        return memoryview(mmap.mmap(-1, nbytes))
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise RemoteProtocolError(f"no memory for a frame of {nbytes} bytes") from error
