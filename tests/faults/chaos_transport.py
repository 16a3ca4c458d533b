"""``transport="tests.faults.chaos_transport"``: sockets that do what networks do, and the layer that repairs it."""

from __future__ import annotations

import os

import msgspec

from ray.abc import Transport
from ray.plugins import PluginInfo, hookimpl
from ray.plugins.seams import PROCESSES


class ChaosOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Rates, as ``ray.testing.faults.FaultyTransport`` takes them. Each process disturbs what it sends."""

    seed: int = 0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    max_delay_s: float = 0.0
    report: str = ""
    """File to which each process appends what it has injected, as a line of JSON; empty for none."""


PLUGIN = PluginInfo(
    seam="transport",
    name="chaos",
    api=2,
    summary="loses, doubles, delays and reorders, and repairs it",
    capabilities=frozenset({PROCESSES}),
    options=ChaosOptions,
)


@hookimpl
def ray_open_transport(options: ChaosOptions, session_dir: str) -> Transport:
    """The same layers in every process."""
    from ray.builtin.reliable_transport import ReliableTransport
    from ray.builtin.unix_transport import UnixTransport
    from ray.testing.faults import FaultyTransport

    class Reporting(FaultyTransport):
        def close(self) -> None:
            if options.report:
                with open(options.report, "a") as file:
                    file.write(msgspec.json.encode(self.injected).decode() + "\n")
            super().close()

    faulty = Reporting(
        UnixTransport(session_dir),
        seed=options.seed * 1_000_003 + os.getpid(),
        loss=options.loss,
        duplicate=options.duplicate,
        reorder=options.reorder,
        max_delay_s=options.max_delay_s,
    )
    return ReliableTransport(faulty, close_s=3.0)
