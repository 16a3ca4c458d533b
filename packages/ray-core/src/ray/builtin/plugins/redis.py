"""``control="redis"``: the control store in a Redis or Valkey server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.builtin.redis_control.options import VARIABLE, RedisOptions
from ray.plugins import PluginInfo, hookimpl

if TYPE_CHECKING:
    from ray.abc import ControlServer, ControlStore

PLUGIN = PluginInfo(
    seam="control",
    name="redis",
    api=2,
    summary="in a Redis or Valkey server, the session's own or one that is there",
    options=RedisOptions,
    machine_options=frozenset({"url", "file", "ca_file", "host", "port", "memory_bytes"}),
)


@hookimpl
def ray_start_control(options: RedisOptions, session_dir: str) -> ControlServer:
    """The session's server, or its part of one that is there."""
    import os

    access = options.existing(os.environ.get(VARIABLE, ""))
    if access is None:
        from ray.builtin.redis_control.own import OwnRedis

        return OwnRedis(session_dir, options)
    from ray.builtin.redis_control.existing import ExistingRedis

    return ExistingRedis(session_dir, access)


@hookimpl
def ray_open_control(options: RedisOptions, address: str) -> ControlStore:
    """A handle on the server that an address names."""
    from ray.builtin.redis_control.access import load
    from ray.builtin.redis_control.handle import RedisControlStore

    return RedisControlStore(load(address))
