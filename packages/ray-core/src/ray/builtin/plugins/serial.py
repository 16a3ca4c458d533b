"""``executor="serial"``: one call at a time on the main thread; tasks and ordinary actors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.plugins import PluginInfo, hookimpl

if TYPE_CHECKING:
    from ray.abc import Executor

PLUGIN = PluginInfo(seam="executor", name="serial", api=2, summary="one call at a time, on the main thread")


@hookimpl
def ray_make_executor() -> Executor:
    """The limits are of no use here: it is always one."""
    from ray.builtin.executors import SerialExecutor

    return SerialExecutor()
