"""``transport="unix"``: sockets in the session directory, for the processes of one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.plugins import PluginInfo, hookimpl
from ray.plugins.seams import PROCESSES

if TYPE_CHECKING:
    from ray.abc import Transport

PLUGIN = PluginInfo(
    seam="transport",
    name="unix",
    api=2,
    summary="unix sockets between the processes of one machine",
    capabilities=frozenset({PROCESSES}),
)


@hookimpl
def ray_open_transport(session_dir: str) -> Transport:
    """The transport of this process."""
    from ray.builtin.unix_transport import UnixTransport

    return UnixTransport(session_dir)
