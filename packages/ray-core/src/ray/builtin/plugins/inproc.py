"""``transport="inproc"``: queues within one process, for tests and local mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.plugins import PluginInfo, hookimpl

if TYPE_CHECKING:
    from ray.abc import Transport

PLUGIN = PluginInfo(seam="transport", name="inproc", api=2, summary="queues within one process, for tests")


@hookimpl
def ray_open_transport() -> Transport:
    """One end; a process may have several."""
    from ray.builtin.inproc_transport import InprocTransport

    return InprocTransport()
