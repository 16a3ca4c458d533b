"""What is known of calls whose actor has died."""

from __future__ import annotations

from collections.abc import Sequence

from ray.ids import PROCESS_ID_BYTES
from ray.messages.node import ExitCause
from ray.protocol.call_records import Callee, T

# What became of a call, as errors say it.
UNSTARTED = "did not start"
INTERRUPTED = "did not complete"
RESULT_LOST = "ran, but its result was lost with the process"
STARTED = "had started; its result did not come"
UNKNOWN = "may have run, or not: its result did not come"


def fates_of(callee: Callee[T], calls: Sequence[T], cause: ExitCause | None, process_id: bytes) -> list[str]:
    """What is known of calls that the dead process had been sent and had not answered, in their order."""
    running, began = (b"", b"") if cause is None else (cause.running, cause.began)
    others = [STARTED if _had_begun(callee, call, running or began, process_id) else UNKNOWN for call in calls]
    if callee.concurrent:
        if running and not any(running):
            return [UNSTARTED] * len(calls)
        return [INTERRUPTED if call.id == running else fate for call, fate in zip(calls, others, strict=True)]
    for index, call in enumerate(calls):
        if call.id == running:
            return [RESULT_LOST] * index + [INTERRUPTED] + [UNSTARTED] * (len(calls) - index - 1)
    # It has answered the last one that it started of ours, or has started none at all. Of another caller's call it can
    # only be said that ours may have run before.
    known = running and (not any(running) or running[:PROCESS_ID_BYTES] == process_id)
    return [UNSTARTED] * len(calls) if known else others


def _had_begun(callee: Callee[T], call: T, began: bytes, process_id: bytes) -> bool:
    """Whether a call began no later than one of which that is known: those of one process begin in their order."""
    if call.id == began:
        return True
    ours = began[:PROCESS_ID_BYTES] == process_id and call.id[:PROCESS_ID_BYTES] == process_id
    return ours and not callee.groups and not call.attempt and call.id < began
