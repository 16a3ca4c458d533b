"""``transport="tests.diverting_transport"``: data connections to a node go by a way that a test has laid."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import msgspec

from ray.abc import Transport
from ray.abc.transport import Connection, Frame
from ray.builtin.unix_transport import UnixTransport
from ray.exceptions import RemoteProtocolError
from ray.messages import codec, objects
from ray.plugins import PluginInfo, hookimpl
from ray.plugins.seams import PROCESSES
from ray.protocol.conversations import HEAD_BYTES

LIMIT_S = 10


class DivertingOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which ways there are."""

    ways: int
    """A port: who sends the one of an object manager there is told where to connect to instead; two bytes each."""


PLUGIN = PluginInfo(
    seam="transport",
    name="diverting",
    api=2,
    summary="data connections to a node go by a way that a test has laid",
    capabilities=frozenset({PROCESSES}),
    options=DivertingOptions,
)


class DivertingTransport(UnixTransport):
    """Node managers hear of another port than the one that they were told of."""

    ways = 0
    is_node = False

    def listen(self, hint: str) -> str:
        self.is_node = hint == "node"
        return super().listen(hint)

    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        found = super().poll(timeout_s)
        if not self.is_node:
            return found
        return [(connection, frames and self._diverted(frames)) for connection, frames in found]

    def _diverted(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        head, said = bytes(frames[0][:HEAD_BYTES]), frames[0][HEAD_BYTES:]
        try:
            message = codec.decode([said])
        except RemoteProtocolError:
            return frames
        if isinstance(message, objects.DataTicket) and message.port:
            message = msgspec.structs.replace(message, port=self._way_to(message.port))
            return [head + codec.encode(message)]
        return frames

    def _way_to(self, port: int) -> int:
        with socket.create_connection(("127.0.0.1", self.ways), LIMIT_S) as asking:
            asking.sendall(port.to_bytes(2, "big"))
            return int.from_bytes(asking.recv(2), "big")


@hookimpl
def ray_open_transport(options: DivertingOptions, session_dir: str) -> Transport:
    """The same in every process."""
    transport = DivertingTransport(session_dir)
    transport.ways = options.ways
    return transport
