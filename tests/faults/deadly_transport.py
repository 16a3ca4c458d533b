"""``transport="tests.faults.deadly_transport"``: as the driver joins its session, a process of that dies."""

from __future__ import annotations

import contextlib
import os

import msgspec
import psutil

from ray.abc import Transport
from ray.builtin.unix_transport import UnixTransport
from ray.plugins import PluginInfo, hookimpl
from ray.plugins.seams import PROCESSES
from ray.testing import eventually


class DeadlyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which process dies when."""

    driver: int
    victim: str
    """``node`` or ``store``."""
    number: int
    """The signal."""
    at_once: bool
    """As the transport is opened, which comes before the store; else as the driver connects."""
    waits: bool
    """Go on when it is dead; else at once."""
    inner: str = "unix"


PLUGIN = PluginInfo(
    seam="transport",
    name="deadly",
    api=2,
    summary="ends processes of a session that is joined",
    capabilities=frozenset({PROCESSES}),
    options=DeadlyOptions,
)


def strike(options: DeadlyOptions) -> None:
    """Send the signal."""
    (node,) = (child for child in psutil.Process().children() if "ray.runtime.mains.node" in " ".join(child.cmdline()))
    victim = node
    if options.victim == "store":
        (victim,) = (child for child in node.children() if child.name() in ("ray-plasma", "ray-shm"))
    victim.send_signal(options.number)
    with contextlib.suppress(psutil.NoSuchProcess):  # it may end, and be reaped, between two looks
        eventually(lambda: not (options.waits and victim.is_running() and victim.status() != psutil.STATUS_ZOMBIE))


@hookimpl
def ray_open_transport(options: DeadlyOptions, session_dir: str) -> Transport:
    """The real one."""
    if options.inner == "zmq":
        from ray_transport_zmq.options import ZmqOptions
        from ray_transport_zmq.plugin import ray_open_transport

        transport: Transport = ray_open_transport(ZmqOptions(), session_dir)
    else:
        transport = UnixTransport(session_dir)
    if os.getpid() == options.driver:
        if options.at_once:
            strike(options)
        else:
            connect = transport.connect

            def deadly(address: str, timeout_s: float = 5.0) -> object:
                strike(options)
                return connect(address, timeout_s)

            transport.connect = deadly  # type: ignore[method-assign, assignment]
    return transport
