"""``transport="zmq"``: what ray-core reads when it looks for this plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.plugins import PluginInfo, hookimpl
from ray.plugins.seams import HOSTS, PROCESSES, WATCHABLE
from ray_transport_zmq.options import ZmqOptions

if TYPE_CHECKING:
    from ray.abc import Transport

__all__ = ["PLUGIN", "ZmqOptions", "ray_open_transport"]

PLUGIN = PluginInfo(
    seam="transport",
    name="zmq",
    api=2,
    summary="ZeroMQ, over unix sockets or encrypted TCP",
    capabilities=frozenset({PROCESSES, HOSTS, WATCHABLE}),
    options=ZmqOptions,
    machine_options=frozenset({"host", "ports", "key_file"}),
    capability_options={HOSTS: {"scheme": "tcp"}},
)


@hookimpl
def ray_open_transport(options: ZmqOptions, session_dir: str) -> Transport:
    """The transport of this process; it starts no thread before it listens or connects."""
    from ray_transport_zmq.transport import ZmqTransport

    return ZmqTransport(session_dir, options)
