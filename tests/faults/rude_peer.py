"""A peer of a session that says hello as it should, and then whatever a test makes it say."""

from __future__ import annotations

import contextlib
import math
import os
import random
import socket
import struct
import types
import typing
from typing import Annotated, Any, Self

import msgspec

import ray
from ray.exceptions import RemoteProtocolError
from ray.messages import codec, node, wire
from ray.protocol import handshake

ENCODE = msgspec.msgpack.encode
#: Every kind of message there is.
KINDS = [
    kind
    for module in (wire, node)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, wire.Struct) and kind.__struct_config__.tag is not None
]


class RudePeer:
    """One connection over the unix transport, which is closed by ``with``."""

    def __init__(
        self, context: ray.RayContext, path: str, kind: str = "driver", process: bytes = b"", **facts: Any
    ) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(path)
        is_guest = os.path.basename(path) == "node.sock" and kind in handshake.GUESTS  # which gets its id there
        self.process = process or (b"" if is_guest else os.urandom(8))
        self.send(self.hello(context, kind, **facts))
        #: What a driver waits for, or is not taken for one.
        self.welcome = self.messages(1) if is_guest and kind == "driver" and not facts else []

    def hello(self, context: ray.RayContext, kind: str, **facts: Any) -> bytes:
        """What it begins with; ``facts`` are what it says otherwise, or beyond that."""
        session = os.path.basename(context.address_info["session_dir"])
        address = f"unix:/nowhere/{os.urandom(8).hex()}"
        hello = wire.Hello(codec.PROTOCOL_VERSION, session, kind, self.process, address, os.getpid())
        return codec.encode(msgspec.structs.replace(hello, **facts))

    def send(self, *frames: bytes) -> bool:
        """Send one message; False if the other end has hung up."""
        head = struct.pack(f"<I{len(frames)}Q", len(frames), *map(len, frames))
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(head + b"".join(frames))
            return True
        return False

    def send_together(self, messages: list[bytes]) -> None:
        """Send messages of one frame so that they arrive at once."""
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(b"".join(struct.pack("<IQ", 1, len(message)) + message for message in messages))

    def messages(self, count: int) -> list[Any]:
        """The next ones that it is sent; fewer if no more come for a while."""
        found: list[Any] = []
        with contextlib.suppress(TimeoutError, ConnectionError), self.sock.makefile("rb") as stream:
            self.sock.settimeout(2)
            while len(found) < count and (head := stream.read(4)):
                lengths = struct.unpack(
                    f"<{struct.unpack('<I', head)[0]}Q", stream.read(8 * struct.unpack("<I", head)[0])
                )
                found.append(codec.decode([stream.read(length) for length in lengths]))
        return found

    def is_hung_up_on(self) -> bool:
        """Whether the other end has ended it, after all that it sent has been read."""
        with contextlib.suppress(ConnectionError):
            while self.sock.recv(65536):
                pass
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.sock.close()


class Mutations:
    """Messages of a kind that are as its types say, or nearly; all that is random comes from the seed."""

    def __init__(self, seed: int, ids: list[bytes]) -> None:
        self._rng = random.Random(seed)
        #: Ids that mean something to the receiver, among others.
        self._ids = ids

    def message(self, kind: type) -> list[bytes]:
        """The frames of one, which is not by chance the one that ends the session."""
        while True:
            frames = self._frames(kind)
            with contextlib.suppress(RemoteProtocolError):
                if isinstance(codec.decode(frames), node.Stop):
                    continue
            return frames

    def _frames(self, kind: type) -> list[bytes]:
        rng = self._rng
        fields = [kind.__struct_config__.tag, *self._fields(kind)]
        chance = rng.random()
        if chance < 0.25 and len(fields) > 1:
            fields[rng.randrange(1, len(fields))] = self._anything()
        elif chance < 0.35:
            del fields[rng.randrange(len(fields)) :]
        elif chance < 0.45:
            fields += [self._anything() for _ in range(rng.randrange(1, 4))]
        data = ENCODE(fields)
        if chance > 0.85:
            changed = bytearray(data)
            for _ in range(rng.randrange(1, 4)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            data = bytes(changed)[: rng.choice((len(changed), rng.randrange(len(changed) + 1)))]
        return [data, *(rng.randbytes(rng.choice((0, 10, 40_000))) for _ in range(rng.choice((0, 0, 1, 2))))]

    def _fields(self, kind: type) -> list[Any]:
        return [self._value(hint) for hint in typing.get_type_hints(kind, include_extras=True).values()]

    def _anything(self) -> Any:
        return self._value(self._rng.choice((int, str, bytes, float, bool, list[int], dict[str, int], None)))

    def _value(self, hint: Any) -> Any:
        rng = self._rng
        origin = typing.get_origin(hint)
        if origin is Annotated:
            return self._value(typing.get_args(hint)[0])
        if origin in (typing.Union, types.UnionType):
            return self._value(rng.choice(typing.get_args(hint)))
        if origin is list:
            return [self._value(typing.get_args(hint)[0]) for _ in range(rng.choice((0, 1, 1, 3)))]
        if origin is tuple:
            return [self._value(each) for each in typing.get_args(hint)]
        if origin is dict:
            names = rng.choice((["CPU"], ["CPU", "GPU"], ["GPU"], [""], ["odd"], []))
            return {name: self._value(typing.get_args(hint)[1]) for name in names}
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            return self._fields(hint)
        if hint is bool:
            return rng.random() < 0.5
        if hint is int:
            odd = (
                0,
                1,
                2,
                -1,
                -2,
                10_000,
                15_000,
                1 << 31,
                (1 << 32) - 1,
                1 << 32,
                (1 << 63) - 1,
                -(1 << 63),
                (1 << 64) - 1,
            )
            return rng.choice(odd) if rng.random() < 0.5 else rng.choice((0, 1, 2))
        if hint is float:
            return rng.choice((0.0, 0.5, 1e300, math.inf, -1.0, math.nan))
        if hint is str:
            return rng.choice(("", "x", "unix:/nowhere", "driver", "\0", "é" * 50, "x" * 5000))
        if hint is bytes:
            sizes = (0, 1, 3000, 8, 16, 16, 20, 20)
            return rng.choice((*self._ids, rng.randbytes(rng.choice(sizes)), rng.randbytes(rng.choice(sizes))))
        return None
