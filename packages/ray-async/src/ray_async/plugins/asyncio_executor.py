"""``executor="asyncio"``: one event loop; actors with ``async def`` methods."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import msgspec

from ray.plugins import PluginInfo, hookimpl

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from ray.abc import Executor


class AsyncioOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What users may choose."""

    loop: Literal["asyncio", "uvloop"] = "asyncio"
    sync_methods: Literal["loop", "threads"] = "loop"
    """Where methods that are not ``async def`` run: on the loop, which they hold up, or on threads beside it."""

    def __post_init__(self) -> None:
        if self.loop == "uvloop" and find_spec("uvloop") is None:
            raise ValueError("loop='uvloop' needs the package 'uvloop'; install it: pip install uvloop")


PLUGIN = PluginInfo(
    seam="executor",
    name="asyncio",
    api=2,
    summary="up to max_concurrency calls, interleaved on one event loop",
    options=AsyncioOptions,
)


@hookimpl
def ray_make_executor(options: AsyncioOptions, max_concurrency: int, concurrency_groups: Mapping[str, int]) -> Executor:
    """The loop is made when the executor runs."""
    from ray_async.executor import AsyncioExecutor

    make_loop: Callable[[], AbstractEventLoop]
    if options.loop == "uvloop":
        from uvloop import new_event_loop as make_loop
    else:
        from ray.clock import new_event_loop as make_loop

    return AsyncioExecutor(
        max_concurrency,
        concurrency_groups,
        new_loop=make_loop,
        sync_in_threads=options.sync_methods == "threads",
    )
