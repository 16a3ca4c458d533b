"""Arguments of an async actor's calls that take a while: read on a thread; calls start in order all the same.

They have gone to a disk, or have to come from another node first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Lock

    from ray.runtime.owner.values import Values


class SpilledArguments:
    """The calls that wait for such arguments, their own or those of a call before them. Used on the loop only."""

    def __init__(self, values: Values) -> None:
        self._values = values
        #: {concurrency group: its calls' turns}, while any of them waits
        self._turns: dict[str | None, _Turns] = {}

    def __len__(self) -> int:
        return len(self._turns)

    async def read(
        self, group: str | None, object_ids: Sequence[bytes], fetch: Callable[[], None] | None
    ) -> list[memoryview]:
        """Return when it is this call's turn and the objects are in memory, where the result holds them.

        ``fetch``: gets them from another node, and holds them; waits.
        """
        values, turns = self._values, self._turns.get(group)
        if turns is None:
            if fetch is None and not any(values.on_disk(object_id) for object_id in object_ids):
                return []
            turns = self._turns[group] = _Turns()
        import asyncio  # Only async actors need it.

        turns.waiting += 1
        try:
            async with turns.lock:
                if fetch is not None:
                    await asyncio.to_thread(fetch)
                    return []
                spilled = [object_id for object_id in object_ids if values.on_disk(object_id)]
                return [await asyncio.to_thread(values.stored_blob, object_id) for object_id in spilled]
        finally:
            turns.waiting -= 1
            if not turns.waiting:
                del self._turns[group]


class _Turns:
    """A queue: asyncio's locks are fair."""

    __slots__ = ("lock", "waiting")

    lock: Lock

    def __init__(self) -> None:
        import asyncio

        self.lock = asyncio.Lock()
        self.waiting = 0
