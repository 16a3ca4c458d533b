"""``control="embedded"``: the control store inside the head's node manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.plugins import PluginInfo, hookimpl

if TYPE_CHECKING:
    from ray.abc import ControlServer, ControlStore

PLUGIN = PluginInfo(seam="control", name="embedded", api=2, summary="inside the head's node manager; no server needed")


@hookimpl
def ray_start_control() -> ControlServer:
    """The state itself."""
    from ray.builtin.embedded_control import EmbeddedControlServer

    return EmbeddedControlServer()


@hookimpl
def ray_open_control(address: str) -> ControlStore:
    """A handle on the server of this process."""
    from ray.builtin.embedded_control import EmbeddedControlStore

    return EmbeddedControlStore(address)
