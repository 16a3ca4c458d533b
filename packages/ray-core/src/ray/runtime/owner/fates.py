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
STARTED = "had started; its result did not come"
UNKNOWN = "may have run, or not: its result did not come"


def fates_of(
    client: ActorClient, records: list[TaskRecord], cause: node.ExitCause | None, process_id: bytes
) -> list[str]:
    """What is known of calls that the dead process had been sent and had not answered, in their order."""
    running, began = (b"", b"") if cause is None else (cause.running, cause.began)
    others = [STARTED if _had_begun(client, record, running or began, process_id) else UNKNOWN for record in records]
    if client.concurrent:
        if running and not any(running):
            return [UNSTARTED] * len(records)
        return [INTERRUPTED if record.id == running else fate for record, fate in zip(records, others, strict=True)]
    for index, record in enumerate(records):
        if record.id == running:
            return [RESULT_LOST] * index + [INTERRUPTED] + [UNSTARTED] * (len(records) - index - 1)
    # It has answered the last one that it started of ours, or has started none at all. Of another caller's call it can
    # only be said that ours may have run before.
    known = running and (not any(running) or running[:PROCESS_ID_BYTES] == process_id)
    return [UNSTARTED] * len(records) if known else others


def _had_begun(client: ActorClient, record: TaskRecord, began: bytes, process_id: bytes) -> bool:
    """Whether a call began no later than one of which that is known: those of one process begin in their order."""
    if record.id == began:
        return True
    ours = began[:PROCESS_ID_BYTES] == process_id and record.id[:PROCESS_ID_BYTES] == process_id
    return ours and not client.groups and not record.attempt and record.id < began
