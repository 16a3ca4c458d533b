"""Errors of objects and values.

Programs raise some of them with a text of their own, as they do with built-in ones: the first argument may be that.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import ClassVar

from ray.exceptions.base import RayError
from ray.exceptions.dual import DualError

#: What decides how large a store is; a cluster was told when its nodes were started.
_CAPACITY = "ray.init(object_store_memory=...), or in a cluster `ray start --object-store-memory`,"


class ObjectLostError(RayError, LookupError):
    """An object's value no longer exists and could not be made again."""

    _advice: ClassVar[str] = "Run the task that made it again, or keep a reference to it in a process that stays alive."

    def __init__(self, object_id: bytes | str = b"", reason: str = "") -> None:
        self.object_id, self.reason = b"", reason
        if isinstance(object_id, str):
            super().__init__(object_id)
            return
        self.object_id = object_id
        super().__init__(f"The object {object_id.hex()} is lost{f': {reason}' if reason else ''}. {self._advice}")


class OwnerDiedError(ObjectLostError):
    """The process that owned the object has died, so nobody can answer for it."""

    _advice = (
        "Have tasks and actors return values instead of references to what they have put, or put it in a process that "
        "stays alive."
    )

    def __init__(self, object_id: bytes | str = b"", reason: str = "") -> None:
        super().__init__(object_id, reason or "the process that created its reference has died")


class ObjectStoreFullError(RayError, MemoryError):
    """No room for an object, even after waiting, eviction and spilling."""

    def __init__(
        self, needed_bytes: int | str = 0, capacity_bytes: int = 0, used_bytes: int = 0, reason: str = ""
    ) -> None:
        self.needed_bytes, self.capacity_bytes, self.used_bytes, self.reason = 0, capacity_bytes, used_bytes, reason
        if isinstance(needed_bytes, str):
            super().__init__(needed_bytes)
            return
        self.needed_bytes = needed_bytes
        if 0 < capacity_bytes < needed_bytes:
            super().__init__(
                f"The object store is too small: {needed_bytes:,} bytes needed, {capacity_bytes:,} in all"
                f"{f' ({reason})' if reason else ''}: the object is larger than the store. Give {_CAPACITY} more, or "
                "store it in parts."
            )
            return
        super().__init__(
            f"The object store is full: {needed_bytes:,} bytes needed, {used_bytes:,} of {capacity_bytes:,} in use"
            f"{f' ({reason})' if reason else ''}. Delete references that are not needed and the arrays "
            "that ray.get has returned, which are views of the store (ray.get(ref, copy=True) makes copies, which are "
            f"not), have fewer at a time, or give {_CAPACITY} more; 'ray memory' says which tasks and actors the "
            "processes are."
        )


class OutOfDiskError(RayError, OSError):
    """No room on the disk for spilled objects or session files; ``errno`` is ``ENOSPC``."""

    def __init__(self, path: str = "", needed_bytes: int = 0) -> None:
        self.path, self.needed_bytes = path, needed_bytes
        super().__init__(
            errno.ENOSPC,
            f"No room on the disk for {needed_bytes:,} bytes under {path or 'the session directory'}; free some space",
        )


class ObjectExistsError(RayError, ValueError):
    """A store has an object of this id already, created or sealed."""

    def __init__(self, object_id: bytes | str = b"") -> None:
        self.object_id = b""
        if isinstance(object_id, str):
            super().__init__(object_id)
            return
        self.object_id = object_id
        super().__init__(f"The object {object_id.hex()} exists in the store already; an id is created only once.")


class GetTimeoutError(RayError, TimeoutError):
    """``ray.get`` waited for its ``timeout``.

    Args:
        timeout_s: how long.
        pending: how many objects were not ready.
        total: of how many.
        reason: why they cannot become ready as things are, a sentence; empty if nothing of the kind is known.
        cancelled: how many of those not ready wait for a task that was cancelled and has not ended yet.
        tasks: the names of the first few tasks that make them, as far as they are known here; each once.
        others: how many more names there are.
    """

    def __init__(
        self,
        timeout_s: float | str | None = None,
        pending: int = 0,
        total: int = 0,
        reason: str = "",
        cancelled: int = 0,
        tasks: Sequence[str] = (),
        others: int = 0,
    ) -> None:
        self.tasks, self.others = list(tasks), others
        self.pending, self.total, self.reason = pending, total, reason
        self.timeout_s: float | None = None
        self.cancelled = cancelled
        if isinstance(timeout_s, str):
            super().__init__(timeout_s)
            return
        self.timeout_s = timeout_s
        after = f" after {timeout_s:g} s" if timeout_s is not None else ""
        count = f"{pending} of {total} objects are" if total else "some object(s)"
        named = ", ".join(tasks) if others or len(tasks) < 2 else f"{', '.join(tasks[:-1])} and {tasks[-1]}"
        shown = f" ({named}{f' and {others} more' if others else ''})" if tasks else ""
        text = f"Get timed out{after}: {count} not ready{shown}. {reason}"
        if not cancelled or cancelled < pending:
            subject = "The other tasks" if cancelled else "The tasks"
            text = f"{text}{' ' if reason else ''}{subject} go on: get again, or ray.cancel() what is not needed."
        super().__init__(text)


class DeserializationError(DualError, ValueError):
    """A value cannot be unpickled here: its class is missing, or its code raises.

    It is of the type of the exception behind it, too, which is its ``__cause__``.

    Args:
        what: what cannot be unpickled, as the subject of a sentence.
        cause: what unpickling it has raised.
        object_id: where it is an object: 20 bytes, else empty.
        task: the name of the task that made it, or empty.
        pid: of the process that has tried.
        summary: type and message of the cause.
        traceback_str: the traceback of the cause.
    """

    what: str = ""
    object_id: bytes = b""
    task: str = ""
    pid: int = 0
    summary: str = ""
    traceback_str: str = ""
    _text: str = ""

    def __init__(
        self,
        what: str = "a value",
        cause: BaseException | None = None,
        *,
        object_id: bytes = b"",
        task: str = "",
        pid: int = 0,
        summary: str = "",
        traceback_str: str = "",
    ) -> None:
        self.what, self.cause, self.object_id, self.task = what, cause, object_id, task
        self.pid = pid
        self.summary, self.traceback_str = summary or type(cause).__name__ * (cause is not None), traceback_str
        self.__cause__ = cause
        subject = what[:1].upper() + what[1:]
        made_by = f", made by the task {task}," if task else ""
        why = f": {self.summary}" if self.summary else ""
        remote = f"\n\nIts traceback:\n{traceback_str.rstrip()}" if traceback_str else ""
        self._text = (
            f"{subject}{made_by} cannot be unpickled{f' (pid={pid})' if pid else ''}{why}. {_READ_ADVICE}{remote}"
        )
        self.args = (self._text,)

    def __str__(self) -> str:
        return self._text


_READ_ADVICE = "Its class must be importable, and what rebuilds it (__setstate__, __reduce__) must not raise."


class UnpicklableError(RayError, TypeError):
    """A value cannot be pickled.

    Args:
        path: where the culprit is, such as ``argument 'model' → .layers[2] → <class '_thread.lock'>``.
        reason: what the pickler said.
        advice: what to do about it, a sentence; without it, what helps with most.
    """

    def __init__(self, path: str, reason: str = "", advice: str = "") -> None:
        self.path, self.reason = path, reason
        advice = advice or "Remove it, create it where it is used, or give its class a __reduce__ method."
        why = f": {reason}" if reason else ""
        super().__init__(f"Cannot pickle {path}{why if why.endswith(('!', '?', '.')) else f'{why}.'} {advice}")
