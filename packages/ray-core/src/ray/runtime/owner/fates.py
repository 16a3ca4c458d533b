"""What is known of calls whose actor has died."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.ids import PROCESS_ID_BYTES
from ray.messages import node
from ray.runtime.owner.records import TaskRecord

if TYPE_CHECKING:
    from ray.runtime.owner.actor_client import ActorClient

# What became of a call, as errors say it.
UNSTARTED = "did not start"
INTERRUPTED = "did not complete"
RESULT_LOST = "ran, but its result was lost with the process"
UNKNOWN = "may have run, or not: its result did not come"


def fates_of(
    client: ActorClient, records: list[TaskRecord], cause: node.ExitCause | None, process_id: bytes
) -> list[str]:
    """What is known of calls that the dead process had been sent and had not answered, in their order."""
    running = b"" if cause is None else cause.running
    if client.concurrent:
        others = UNSTARTED if running and not any(running) else UNKNOWN
        return [INTERRUPTED if record.id == running else others for record in records]
    for index, record in enumerate(records):
        if record.id == running:
            return [RESULT_LOST] * index + [INTERRUPTED] + [UNSTARTED] * (len(records) - index - 1)
    # It has answered the last one that it started of ours, or has started none at all. Of another caller's call it can
    # only be said that ours may have run before.
    known = running and (not any(running) or running[:PROCESS_ID_BYTES] == process_id)
    return [UNSTARTED if known else UNKNOWN] * len(records)
