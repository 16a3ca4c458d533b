"""``store="traced"``: what ray-core reads when it looks for this plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ray.plugins import PluginInfo, hookimpl

if TYPE_CHECKING:
    from ray.abc import Store, StoreServer


class TracedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the traced store."""

    log: bool = False
    """Log every operation to the logger ``ray_store_traced``, at level INFO."""
    report: str = ""
    """File to which each process appends its counts, as a line of JSON, when it closes the store; empty for none."""


PLUGIN = PluginInfo(
    seam="store",
    name="traced",
    api=2,
    summary="objects in a dict, every operation counted",
    options=TracedOptions,
)


@hookimpl
def ray_start_store(capacity_bytes: int) -> StoreServer:
    """Nothing runs on the node; the server only tells the processes how much each may hold."""
    from ray_store_traced.store import TracedStoreServer

    return TracedStoreServer(capacity_bytes)


@hookimpl
def ray_open_store(options: TracedOptions, address: str) -> Store:
    """This process's own dict."""
    from ray_store_traced.store import TracedStore

    return TracedStore(address, log=options.log, report=options.report)
