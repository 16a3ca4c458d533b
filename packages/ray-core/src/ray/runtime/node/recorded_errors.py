"""What has failed, for ``ray.error_info``: a list of each job in the control store, which is never waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ray.abc.control import ControlStore
from ray.abc.control_operations import Append, Expire, Items
from ray.exceptions import ControlStoreError
from ray.messages import node

MAX_ERRORS = 1000
#: Of one failure, as it is kept.
MAX_ROW_BYTES = 8192
#: Of its message and the name of its function; the rest has room beside them.
_MAX_MESSAGE_BYTES = 7000
_MAX_NAME = 200
#: Before the process that asks gives up.
_ANSWER_S = 8.0
#: What is kept of a job goes so long after its end.
_KEPT_S = 24 * 3600.0


class RecordedErrors:
    """Of one node manager."""

    def __init__(self, control: ControlStore, say: Callable[[str], None]) -> None:
        self._control = control
        self._say = say
        #: Rows that the store has not said to have.
        self._under_way = 0
        #: Rows that it does not have.
        self._lost = 0

    def add(self, job: str, record: node.ErrorRecord) -> None:
        """Keep one more of a job; while the store does not answer, no more than it would keep."""
        if self._under_way >= MAX_ERRORS:
            self._lost += 1
            return
        self._under_way += 1
        self._control.ask(Append(_key(job), _row(record), MAX_ERRORS), self._added)

    def _added(self, answer: int | ControlStoreError) -> None:
        self._under_way -= 1
        if not isinstance(answer, ControlStoreError):
            if self._lost:
                self._say(f"failures are recorded again; {self._lost} are not in ray.error_info()")
            self._lost = 0
            return
        if not self._lost:
            self._say(f"failures cannot be recorded for ray.error_info(): {answer}")
        self._lost += 1

    def expire(self, job: str) -> None:
        """The job is over."""
        self._control.ask(Expire(_key(job), _KEPT_S), lambda answer: None)

    def ask(self, job: str, on_answer: Callable[[list[dict[str, Any]] | ControlStoreError], None]) -> None:
        """Have ``on_answer`` called with the job's rows, oldest first; those that were added before are among them."""

        def rows(answer: list[bytes] | ControlStoreError) -> None:
            if isinstance(answer, ControlStoreError):
                on_answer(answer)
            else:
                on_answer([msgspec.msgpack.decode(item) for item in answer])

        self._control.ask(Items(_key(job)), rows, timeout_s=_ANSWER_S)


def _row(record: node.ErrorRecord) -> bytes:
    """As it is kept: of what is too long, the beginning and, where that tells more, the end."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    row = msgspec.msgpack.encode(fields)
    if len(row) <= MAX_ROW_BYTES:
        return row
    short = {"message": _without_middle(record.message), "function": record.function[:_MAX_NAME]}
    return msgspec.msgpack.encode(fields | short)


def _without_middle(text: str) -> str:
    data = text.encode()
    if len(data) <= _MAX_MESSAGE_BYTES:
        return text
    half = _MAX_MESSAGE_BYTES // 2
    first, last = (part.decode(errors="ignore") for part in (data[:half], data[-half:]))
    return f"{first}\n[... {len(data) - 2 * half:,} bytes of this message are not kept ...]\n{last}"


def _key(job: str) -> str:
    return f"errors:{job}"
