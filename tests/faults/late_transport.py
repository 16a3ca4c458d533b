"""``transport="tests.faults.late_transport"``: a driver hears late of some workers, as one that is held up does."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from ray.abc import Transport
from ray.abc.transport import Connection, Frame
from ray.builtin.unix_transport import UnixTransport
from ray.plugins import PluginInfo, hookimpl
from ray.plugins.seams import PROCESSES

#: What arrives on a connection from the first message on that holds this comes late, up to the connection's end.
MARK = b"from here on it comes late"
_LOOK_S = 0.02


class LateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """When what is late comes."""

    gate: str
    """A file: once it is there, all comes in the order in which it has arrived. While it is not, ``gate-held`` says
    that something waits for it."""


PLUGIN = PluginInfo(
    seam="transport",
    name="late",
    api=2,
    summary="holds up what workers say",
    capabilities=frozenset({PROCESSES}),
    options=LateOptions,
)


class LateTransport(UnixTransport):
    """A driver's, by the name of its listening socket."""

    gate = ""
    is_driver = False

    def __init__(self, session_dir: str) -> None:
        super().__init__(session_dir)
        self._late_ones: set[Connection] = set()
        self._held: list[tuple[Connection, Sequence[Frame] | None]] = []

    def listen(self, hint: str) -> str:
        self.is_driver = hint == "driver"
        return super().listen(hint)

    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        if not self.is_driver:
            return super().poll(timeout_s)
        if self._held:
            timeout_s = _LOOK_S if timeout_s is None else min(timeout_s, _LOOK_S)
        found = super().poll(timeout_s)
        if os.path.exists(self.gate):
            held, self._held = self._held, []
            return held + found
        passed = []
        for connection, frames in found:
            if any(MARK in bytes(frame) for frame in frames or ()):
                self._late_ones.add(connection)
                open(f"{self.gate}-held", "w").close()
            (self._held if connection in self._late_ones else passed).append((connection, frames))
        return passed


@hookimpl
def ray_open_transport(options: LateOptions, session_dir: str) -> Transport:
    """The same in every process."""
    transport = LateTransport(session_dir)
    transport.gate = options.gate
    return transport
