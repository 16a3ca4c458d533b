"""``transport="tests.faults.doomed_transport"``: some workers end before they have come to any program's code."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from ray.abc import Transport
from ray.abc.transport import Connection, Frame
from ray.builtin.unix_connection import UnixConnection
from ray.builtin.unix_transport import UnixTransport
from ray.plugins import PluginInfo, hookimpl
from ray.plugins.seams import PROCESSES


class DoomedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which workers end."""

    folder: str
    """Holds a file for each that is to end: ``connect…`` as it connects, others as it is sent what has their name."""


PLUGIN = PluginInfo(
    seam="transport",
    name="doomed",
    api=2,
    summary="ends workers before they have begun",
    capabilities=frozenset({PROCESSES}),
    options=DoomedOptions,
)


class DoomedTransport(UnixTransport):
    """A worker's, by the name of its listening socket."""

    folder = ""
    is_worker = False

    def listen(self, hint: str) -> str:
        self.is_worker = hint.startswith("w-")
        return super().listen(hint)

    def dial(self, address: str, timeout_s: float = 5.0) -> UnixConnection:
        if self.is_worker and self._takes("connect"):
            raise ConnectionError(f"cannot connect to {address}: it is doomed")
        return super().dial(address, timeout_s)

    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        found = super().poll(timeout_s)
        if self.is_worker:
            data = b"".join(bytes(frame) for _, frames in found for frame in frames or ())
            names = {name.rpartition(".")[0] for name in os.listdir(self.folder)}
            if any(name.encode() in data and self._takes(name) for name in names):
                os.write(2, b"doomed\n")
                os._exit(7)
        return found

    def _takes(self, name: str) -> bool:
        """Whether one more is to end; the file goes with it."""
        for found in os.listdir(self.folder):
            if found.rpartition(".")[0] == name:
                try:
                    os.unlink(os.path.join(self.folder, found))
                except FileNotFoundError:  # another one was quicker
                    continue
                return True
        return False


@hookimpl
def ray_open_transport(options: DoomedOptions, session_dir: str) -> Transport:
    """The same in every process."""
    transport = DoomedTransport(session_dir)
    transport.folder = options.folder
    return transport
