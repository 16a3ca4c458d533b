"""``transport="tests.faults.shy_transport"``: the driver does not reach workers, though it reaches the node manager."""

from __future__ import annotations

import os

import msgspec

from ray.abc import Transport
from ray.abc.transport import Connection
from ray.builtin.unix_transport import UnixTransport
from ray.plugins import PluginInfo, hookimpl
from ray.plugins.seams import PROCESSES


class ShyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """When it reaches them."""

    gate: str
    """A file: once it is there."""


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
    is_driver = False

    def listen(self, hint: str) -> str:
        self.is_driver = hint == "driver"
        return super().listen(hint)

    def connect(self, address: str, timeout_s: float = 5.0) -> Connection:
        if self.is_driver and "/w-" in address and not os.path.exists(self.gate):
            raise ConnectionError(f"cannot connect to {address}: it is shy")
        return super().connect(address, timeout_s)


@hookimpl
def ray_open_transport(options: ShyOptions, session_dir: str) -> Transport:
    transport = ShyTransport(session_dir)
    transport.gate = options.gate
    return transport
