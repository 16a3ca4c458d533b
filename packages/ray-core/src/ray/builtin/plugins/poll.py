"""``selector="poll"``: asks anew each time; needs nothing but the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.plugins import PluginInfo, hookimpl

if TYPE_CHECKING:
    from ray.abc.selector import ObjectSelector

PLUGIN = PluginInfo(seam="selector", name="poll", api=2, summary="one wait over everything registered per select")


@hookimpl
def ray_make_selector(runtime: Any) -> ObjectSelector:
    """Holds nothing of the operating system."""
    from ray.builtin.poll_selector import PollSelector

    return PollSelector(runtime)
