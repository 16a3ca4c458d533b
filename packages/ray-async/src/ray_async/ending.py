"""How a loop is brought to its end, be it the actor's or the program's."""

from __future__ import annotations

import asyncio
import contextlib


async def wind_up(limit_s: float) -> None:
    """Cancel what else is on the running loop and close its async generators; ``limit_s`` for each of the two."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=limit_s)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_asyncgens(), limit_s)
