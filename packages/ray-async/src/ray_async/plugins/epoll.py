"""``selector="epoll"``: is told what becomes ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.plugins import PluginInfo, hookimpl

if TYPE_CHECKING:
    from ray.abc.selector import ObjectSelector

PLUGIN = PluginInfo(
    seam="selector",
    name="epoll",
    api=2,
    summary="a list of ready objects, fed by completions, behind one descriptor",
)


@hookimpl
def ray_make_selector() -> ObjectSelector:
    """Each ref leads to its session, so that none is needed here. Opens one descriptor, which ``close`` closes."""
    from ray_async.selectors import EpollSelector

    return EpollSelector()
