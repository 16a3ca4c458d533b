"""Messages to frames and back: frame 0 is the msgpack of the struct, the rest are out-of-band buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Union

import msgspec

from ray.abc.transport import Frame
from ray.exceptions import RemoteProtocolError
from ray.messages import cluster, finding, jobs, node, objects, wire
from ray.messages.wire import Data

#: Values from this size on travel as frames of their own and are never copied into the message.
OUT_OF_BAND_BYTES = 32 * 1024

_TAGGED = tuple(
    cls
    for module in (wire, node, jobs, cluster, finding, objects)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, wire.Struct) and cls.__struct_config__.tag is not None
)

encode = msgspec.msgpack.Encoder().encode
#: What ``encode`` raises of text with a lone surrogate, a number of more than 64 bits, or another kind of value.
UNENCODABLE = (ValueError, OverflowError, TypeError)
_decode: Callable[[Frame], Any] = msgspec.msgpack.Decoder(Union[_TAGGED]).decode  # noqa: UP007 - made at run time
PROTOCOL_VERSION = 2


def decode(frames: Sequence[bytes | bytearray | memoryview]) -> Any:
    """The message in ``frames[0]``.

    Raises:
        RemoteProtocolError: the peer sent something that is not a message.
    """
    try:
        return _decode(frames[0])
    except (msgspec.DecodeError, IndexError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"undecodable message: {error}") from None


def attach(data: bytes | bytearray | memoryview, frames: list[Any]) -> Data:
    """Put ``data`` into a message: in place if small, else as a new frame behind those in ``frames``."""
    if len(data) < OUT_OF_BAND_BYTES:
        return data if type(data) is bytes else bytes(data)
    frames.append(data)
    return len(frames) - 1


def detach(data: Data, frames: Sequence[Any]) -> Any:
    """The bytes that ``attach`` put there."""
    if type(data) is int:
        try:
            return frames[data]
        except IndexError:
            raise RemoteProtocolError(f"message refers to frame {data} of {len(frames)}") from None
    return data
