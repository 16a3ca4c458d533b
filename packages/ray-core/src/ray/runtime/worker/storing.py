"""How results get into the node's store: as they are when the user's code hands them over.

On an event loop that means in the same step of the loop: what runs there next may change them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.exceptions import ObjectStoreFullError, OutOfDiskError
from ray.exceptions.base import traceback_of

if TYPE_CHECKING:
    from ray.runtime.owner.values import Values
    from ray.runtime.worker.outcome import Large, Outcome
    from ray.serialization import Serialized


def store_results(values: Values, large: Large) -> None:
    """Store all, or none, and empty ``large``; waits for room."""
    ids = [id for id, _ in large]
    try:
        while large:
            values.store_result(*large.pop(0))
    except BaseException:
        values.discard(ids)
        raise


def leave_result(values: Values, id: bytes, value: Serialized, *, patient: bool) -> bool:
    """Store a value for an owner on another node, which reads it here; False: there is no room for it."""
    try:
        values.store_result(id, value, patient=patient)
    except (ObjectStoreFullError, OutOfDiskError, BlockingIOError):
        return False
    return True


def leave_results(values: Values, outcome: Outcome, *, patient: bool) -> None:
    """Store all that is large for an owner on another node, which reads it here; what has no room goes to it at once.

    Empties ``outcome.large``. ``patient``: whether it waits for room.
    """
    large, stored = outcome.large, list[bytes]()
    places = [index for index, blob in enumerate(outcome.blobs) if blob is None]
    try:
        for index in places:
            id, value = large.pop(0)
            if leave_result(values, id, value, patient=patient):
                stored.append(id)
            else:
                outcome.blobs[index], outcome.away[index] = value.to_bytes(), None
    except BaseException:
        values.discard(stored)
        raise


async def store_results_on_loop(values: Values, large: Large) -> bool:
    """The same, with the values as they are now; where there is no room yet, a thread waits with a copy.

    Returns:
        Whether the asyncio task was cancelled meanwhile, which is put off until the values are stored.
    """
    ids = [id for id, _ in large]
    crowded: Large = []
    try:
        while large:
            id, value = large.pop(0)
            try:
                values.store_result(id, value, patient=False)
            except BlockingIOError:
                crowded.append((id, value.snapshot()))
            del value  # it borrows memory of the user's
        return bool(crowded) and await _store_on_thread(values, crowded)
    except BaseException:
        values.discard(ids)
        raise


async def _store_on_thread(values: Values, large: Large) -> bool:
    import asyncio  # Only async actors need it.

    storing = asyncio.get_running_loop().run_in_executor(None, store_results, values, large)
    cancelled = False
    while not storing.done():
        try:
            await asyncio.wait([storing])
        except asyncio.CancelledError:
            cancelled = True
    storing.result()
    return cancelled


def is_of_result(error: BaseException, values: Values) -> bool:
    """Whether a result could not be stored, rather than the user's code has raised or passed on ``error``."""
    code, step = type(values).store_result.__code__, traceback_of(error)
    while step is not None and step.tb_frame.f_code is not code:
        step = step.tb_next
    return step is not None
