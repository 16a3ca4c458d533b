"""``scheduler="spread"``: the least loaded node first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.plugins import PluginInfo, hookimpl

if TYPE_CHECKING:
    from ray.abc import SchedulerPolicy

PLUGIN = PluginInfo(seam="scheduler", name="spread", api=2, summary="takes the least loaded node first")


@hookimpl
def ray_make_scheduler() -> SchedulerPolicy:
    """The policy, without options."""
    from ray.builtin.schedulers import SpreadPolicy

    return SpreadPolicy()
