"""``transport="tests.faults.slow_transport"``: workers are slow to come to ``poll``, and to go on from ``close``."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ray.abc import Transport
from ray.abc.transport import Connection, Frame
from ray.builtin.unix_transport import UnixTransport
from ray.plugins import PluginInfo, hookimpl
from ray.plugins.seams import PROCESSES

PLUGIN = PluginInfo(
    seam="transport", name="slow", api=2, summary="is slow to poll", capabilities=frozenset({PROCESSES})
)
DELAY_S = 0.02


class SlowTransport(UnixTransport):
    """A worker's, by the name of its listening socket."""

    delay_s = 0.0

    def listen(self, hint: str) -> str:
        if hint.startswith("w-"):
            self.delay_s = DELAY_S
        return super().listen(hint)

    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        time.sleep(self.delay_s)
        found = super().poll(timeout_s)
        time.sleep(self.delay_s / 2)
        return found

    def close(self) -> None:
        super().close()
        time.sleep(4 * self.delay_s)


@hookimpl
def ray_open_transport(options: object, session_dir: str) -> Transport:
    """The same in every process."""
    return SlowTransport(session_dir)
