"""``transport="routed"``: one transport within a node, another one between nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ray.plugins import PluginInfo, hookimpl
from ray.plugins.seams import HOSTS, PROCESSES, WATCHABLE

if TYPE_CHECKING:
    from ray.abc import Transport


class RoutedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the routed transport."""

    near: str = "unix"
    """The transport between processes of one node."""
    far: str = "zmq"
    """The transport between nodes."""
    near_options: dict[str, Any] = {}
    """Options of the former, beside those that the file gives it."""
    far_options: dict[str, Any] = {}
    """Options of the latter."""


PLUGIN = PluginInfo(
    seam="transport",
    name="routed",
    api=2,
    summary="one transport within a node, another one between nodes",
    capabilities=frozenset({PROCESSES, HOSTS}),
    options=RoutedOptions,
    inner={"near": frozenset({PROCESSES}), "far": frozenset({HOSTS, WATCHABLE})},
)


@hookimpl
def ray_open_transport(node: int, inner: Mapping[str, Callable[[], Transport]]) -> Transport:
    """The transport of this process, with the near one open."""
    from ray.builtin.routed_transport import RoutedTransport

    return RoutedTransport(node, inner["near"](), inner["far"])
