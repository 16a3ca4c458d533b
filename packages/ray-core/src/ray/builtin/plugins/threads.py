"""``executor="threads"``: a pool of threads and one per concurrency group; actors with ``max_concurrency``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ray.plugins import PluginInfo, hookimpl

if TYPE_CHECKING:
    from ray.abc import Executor

PLUGIN = PluginInfo(seam="executor", name="threads", api=2, summary="up to max_concurrency calls, each on a thread")


@hookimpl
def ray_make_executor(max_concurrency: int, concurrency_groups: Mapping[str, int]) -> Executor:
    """Threads are started as calls need them."""
    from ray.builtin.executors import ThreadsExecutor

    return ThreadsExecutor(max_concurrency, concurrency_groups)
