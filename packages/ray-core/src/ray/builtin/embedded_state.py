"""What the embedded control store holds, and what each operation does to it. No thread, and no clock of its own."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from ray.abc.control_operations import (
    Append,
    Claim,
    Commit,
    Delete,
    Expire,
    Get,
    Incr,
    Items,
    Keys,
    Operation,
    Put,
    StreamAppend,
    StreamPart,
    StreamRead,
    Ttl,
    counted,
)
from ray.exceptions import ControlKindError, ControlStoreError

E = TypeVar("E")


class Stream:
    """Numbered entries; the ids are the numbers."""

    __slots__ = ("entries", "newest")

    def __init__(self, newest: int) -> None:
        self.entries: deque[bytes] = deque()
        self.newest = newest


Held: TypeAlias = "bytes | deque[bytes] | Stream"
_CALLED = {bytes: "a value", deque: "a list", Stream: "a stream"}


class EmbeddedState:
    """Keys and what they hold. ``do`` is all of it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: dict[str, Held] = {}
        #: {key: when it becomes free}, of those that do.
        self._ends: dict[str, float] = {}
        #: (when, key), the next first; what ``_ends`` does not say is not so any more.
        self._due: list[tuple[float, str]] = []
        #: The newest entry of any stream: those of a new one come after it, as readers may know one that is gone.
        self._newest = 0
        self._steps: dict[type[Operation[Any]], Callable[[Any], tuple[Any, bool]]] = {
            Get: self._get,
            Put: self._put,
            Delete: self._delete,
            Keys: self._keys,
            Claim: self._claim,
            Commit: self._commit,
            Incr: self._incr,
            Ttl: self._ttl,
            Expire: self._expire,
            Append: self._append,
            Items: self._items,
            StreamAppend: self._stream_append,
            StreamRead: self._stream_read,
        }

    def do(self, op: Operation[Any]) -> tuple[Any, bool]:
        """Do it; returns the answer, and whether what the key holds has changed."""
        self._drop_due()
        step = self._steps.get(type(op))
        if step is None:
            return ControlStoreError(type(op).__name__, op.key, "this store does not know the operation"), False
        try:
            return step(op)
        except ControlStoreError as error:
            return error.with_traceback(None), False

    def _drop_due(self) -> None:
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            end, key = heapq.heappop(self._due)
            if self._ends.get(key) == end:
                self._free(key)

    def _free(self, key: str) -> bool:
        self._ends.pop(key, None)
        return self._held.pop(key, None) is not None

    def _set(self, key: str, value: bytes, ttl_s: float | None) -> None:
        self._held[key] = bytes(value)
        self._end(key, ttl_s)

    def _end(self, key: str, ttl_s: float | None) -> None:
        if ttl_s is None:
            self._ends.pop(key, None)
        else:
            end = self._ends[key] = self._clock() + ttl_s
            heapq.heappush(self._due, (end, key))

    def _of(self, kind: type[E], op: Operation[Any]) -> E | None:
        """What the key holds, which is of that kind; None where it is free."""
        held = self._held.get(op.key)
        if held is None or isinstance(held, kind):
            return held
        raise ControlKindError(type(op).__name__, op.key, f"the key holds {_CALLED[type(held)]}, not {_CALLED[kind]}")

    # --- operations: (answer, whether something has changed) ----------------------------------------------------------

    def _get(self, op: Get) -> tuple[bytes | None, bool]:
        return self._of(bytes, op), False

    def _put(self, op: Put) -> tuple[bool, bool]:
        if not op.overwrite and op.key in self._held:
            return False, False
        self._set(op.key, op.value, op.ttl_s)
        return True, True

    def _delete(self, op: Delete) -> tuple[bool, bool]:
        existed = self._free(op.key)
        return existed, existed

    def _keys(self, op: Keys) -> tuple[list[str], bool]:
        return sorted(key for key in self._held if key.startswith(op.key)), False

    def _claim(self, op: Claim) -> tuple[bool, bool]:
        if self._of(bytes, op) != op.old:
            return False, False
        if op.new is not None:
            self._set(op.key, op.new, op.ttl_s)
            return True, True
        return True, self._free(op.key)

    def _commit(self, op: Commit) -> tuple[list[str], bool]:
        wanted = {op.key: op.held, **{claim.key: claim.old for claim in op.claims}}
        other = [key for key, value in wanted.items() if self._of(bytes, Get(key)) != value]
        if not other:
            for claim in op.claims:
                self._claim(claim)
            for write in op.writes:
                self._steps[type(write)](write)
        return other, not other

    def _incr(self, op: Incr) -> tuple[int, bool]:
        value = self._of(bytes, op)
        count = counted(value, op)
        self._held[op.key] = b"%d" % count
        return count, True

    def _ttl(self, op: Ttl) -> tuple[float | None, bool]:
        if op.key not in self._held:
            return None, False
        return self._ends.get(op.key, math.inf) - self._clock(), False

    def _expire(self, op: Expire) -> tuple[bool, bool]:
        if op.key not in self._held:
            return False, False
        self._end(op.key, op.ttl_s)
        return True, False

    def _append(self, op: Append) -> tuple[int, bool]:
        items: deque[bytes] | None = self._of(deque, op)
        if items is None:
            items = self._held[op.key] = deque()
        items.append(bytes(op.value))
        while len(items) > op.max_items:
            items.popleft()
        return len(items), True

    def _items(self, op: Items) -> tuple[list[bytes], bool]:
        return list(self._of(deque, op) or ()), False

    def _stream_append(self, op: StreamAppend) -> tuple[str, bool]:
        stream = self._of(Stream, op)
        if stream is None:
            stream = self._held[op.key] = Stream(self._newest)
        stream.newest += 1
        self._newest = max(self._newest, stream.newest)
        stream.entries.append(bytes(op.value))
        while len(stream.entries) > op.max_items:
            stream.entries.popleft()
        return str(stream.newest), True

    def _stream_read(self, op: StreamRead) -> tuple[StreamPart, bool]:
        after = _id(op)
        stream = self._of(Stream, op) or Stream(0)
        # What the reader has seen and this stream never had was in one that is gone.
        if after > stream.newest:
            after = -1
        gone = stream.newest - len(stream.entries)
        first = max(after, gone)
        values = list(stream.entries)[first - gone :][: op.max_items]
        entries = [(str(first + 1 + index), value) for index, value in enumerate(values)]
        gap = after < 0 or (bool(op.after) and after < gone)
        return StreamPart(entries, str(stream.newest) if stream.newest else "", gap), False


def _id(op: StreamRead) -> int:
    try:
        return int(op.after or "0")
    except ValueError:
        raise ControlStoreError("StreamRead", op.key, f"{op.after!r} is no id of a stream") from None
