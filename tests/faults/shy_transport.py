"""``transport="tests.faults.shy_transport"``: the driver does not reach workers, though it reaches the node manager."""

from __future__ import annotations

import os
import socket

import msgspec

from ray.abc import Transport
from ray.builtin.unix_connection import UnixConnection
from ray.builtin.unix_dials import Dial
from ray.builtin.unix_transport import UnixTransport
from ray.clock import monotonic
from ray.plugins import PluginInfo, hookimpl
from ray.plugins.seams import PROCESSES


class ShyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """When it reaches them."""

    gate: str
    """A file: once it is there."""
    late: bool = False
    """Whether it dials for a while before it fails."""


PLUGIN = PluginInfo(
    seam="transport",
    name="shy",
    api=2,
    summary="keeps the driver from its workers",
    capabilities=frozenset({PROCESSES}),
    options=ShyOptions,
)


class ShyTransport(UnixTransport):
    """A driver's, by the name of its listening socket."""

    gate = ""
    late = False
    is_driver = False

    def listen(self, hint: str) -> str:
        self.is_driver = hint == "driver"
        return super().listen(hint)

    def dial(self, address: str, timeout_s: float = 5.0) -> UnixConnection:
        if not (self.is_driver and "/w-" in address and not os.path.exists(self.gate)):
            return super().dial(address, timeout_s)
        if not self.late:
            return super().dial(f"{address}: it is shy", timeout_s)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection = UnixConnection(sock, self)
        connection.dial()
        self._connections[connection.fd] = connection
        self._dials.waiting[connection] = Dial(sock, address, f"{self._dir}/nobody", monotonic() + timeout_s)
        self.wake()
        return connection


@hookimpl
def ray_open_transport(options: ShyOptions, session_dir: str) -> Transport:
    transport = ShyTransport(session_dir)
    transport.gate, transport.late = options.gate, options.late
    return transport
