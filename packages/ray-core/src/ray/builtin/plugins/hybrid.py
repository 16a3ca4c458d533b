"""``scheduler="hybrid"``: fill the local node up to a share, then spread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from ray.plugins import PluginInfo, hookimpl

if TYPE_CHECKING:
    from ray.abc import SchedulerPolicy


class HybridOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the hybrid policy."""

    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    """Use of a node, as a share of its scarcest resource, up to which it is packed."""


PLUGIN = PluginInfo(
    seam="scheduler",
    name="hybrid",
    api=2,
    summary="packs the local node first, then spreads",
    options=HybridOptions,
)


@hookimpl
def ray_make_scheduler(options: HybridOptions) -> SchedulerPolicy:
    """The policy."""
    from ray.builtin.schedulers import HybridPolicy

    return HybridPolicy(options.threshold)
