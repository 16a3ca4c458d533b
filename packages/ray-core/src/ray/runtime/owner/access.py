"""``put``, ``get`` and ``wait`` of an owner."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from ray.clock import monotonic
from ray.exceptions import RayError
from ray.headroom import SENDING, check
from ray.ids import FIRST_RETURN
from ray.protocol.references import FAILED, READY, ObjectEntry
from ray.runtime.owner.lacking import timed_out
from ray.runtime.owner.submission import LARGE_BYTES, Submission
from ray.runtime.process.waiting import AllOrFailureWaiter, GroupWaiter, NextWaiter, Waiter, remove_waiter
from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.refs.session import Ref
from ray.serialization import Serialized, serialize, serialize_small

#: A list of at least this many refs is worth remembering, for this long.
REMEMBERED_REFS = 64
REMEMBERED_S = 0.04
#: More small objects than these do not wait for the thread that polls to be freed, where others are put.
MOST_DROPPED = 16

_entry_of = attrgetter("_entry")
_table_of = attrgetter("table")
_status_of = attrgetter("status")


class Rest:
    """What ``wait`` returned as not ready, and the entries: draining many refs one by one passes it in again.

    Comparing lists of the same objects is an order of magnitude quicker than looking into each. Forgotten soon, since
    it keeps refs alive.
    """

    __slots__ = ("_copy", "_entries", "_refs", "made")

    def __init__(self, refs: list[Any], copy: list[Any], entries: list[ObjectEntry]) -> None:
        self._refs = refs
        self._copy = copy
        self._entries = entries
        self.made = monotonic()

    def entries_of(self, refs: list[Any]) -> list[ObjectEntry] | None:
        """The entries, if ``refs`` is the list and nobody has changed it."""
        return self._entries if refs is self._refs and refs == self._copy else None

    def without(self, index: int, refs: list[Any]) -> Rest:
        """What follows when one ref is ready, made of this one, which must not be used any more."""
        del self._copy[index]
        return Rest(refs, self._copy, self._entries)


NO_REST = Rest([], [], [])


class ObjectAccess(Submission):
    """The object methods of an owner."""

    _rest = NO_REST

    def forget_rest(self) -> None:
        """Let go of what ``wait`` returned a while ago; called by the thread that polls."""
        if self._rest is not NO_REST and monotonic() - self._rest.made > REMEMBERED_S:
            self._rest = NO_REST

    def put(self, value: Any) -> ObjectRef[Any]:
        blob = serialize_small(value)
        if self.closed:
            self._check_open()
        if blob is None or len(blob) >= LARGE_BYTES:
            return self._put_large(serialize(value) if blob is None else Serialized(blob, []))
        if len(self.table.dropped) > MOST_DROPPED:  # else the thread that polls frees them
            with self.lock:
                self.collect()
        entry = self.table.put(self._next_id() + FIRST_RETURN, blob)
        ref: ObjectRef[Any] = ObjectRef(entry)
        if self.rests:
            self.transport.wake()
        return ref

    def _put_large(self, serialized: Serialized) -> ObjectRef[Any]:
        inner = [self._own_entry(ref) for ref in serialized.refs]
        check(SENDING)
        with self.lock:
            self.collect()
            entry = self.table.own(self._next_id() + FIRST_RETURN)
            if inner:
                self.table.set_contained(entry, inner)
        ref: ObjectRef[Any] = ObjectRef(entry)
        if self.rests:
            self.transport.wake()
        if serialized.nbytes < LARGE_BYTES:
            self.table.fill(entry, READY, serialized.to_bytes())
        else:
            self.objects.store_value(entry, serialized)
        return ref

    def get_one(self, ref: CountedRef[Any], timeout_s: float | None, copy: bool = False) -> Any:
        if self.guarded and timeout_s != 0:
            self.check_blocking("ray.get")
        entry = ref._entry
        if entry.table is not self.table:
            self._own_entry(ref)
        if not entry.status:
            # The collector may have finalised ``ref``, together with the object whose destructor asks.
            held: ObjectRef[Any] = ObjectRef(entry)
            if not self._wait_entry(entry, timeout_s) and not entry.status:
                raise timed_out(timeout_s, (entry,), 1, self.trouble)
            return self.objects.value(held._entry, copy)
        return self.objects.value(entry, copy)

    def get(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None, copy: bool = False) -> list[Any]:
        if self.guarded and timeout_s != 0:
            self.check_blocking("ray.get")
        entries = list(map(_entry_of, refs))
        if set(map(_table_of, entries)) != {self.table}:
            for ref in refs:
                self._own_entry(ref)
        pending = {entry for entry in entries if not entry.status}
        value = self.objects.value
        if pending:
            failed = len(pending) < len(entries) and FAILED in map(_status_of, entries)
            if not failed and not self._wait_group(pending, len(pending), timeout_s, or_failure=True):
                unfinished = [entry for entry in dict.fromkeys(entries) if not entry.status]
                if unfinished:  # else the last ones have become ready since
                    raise timed_out(timeout_s, unfinished, len(set(entries)), self.trouble)
        try:
            if pending and FAILED in map(_status_of, entries):
                for entry in entries:
                    if entry.status == FAILED:
                        value(entry)
            return [value(entry, copy) for entry in entries]
        except RayError:
            self.asked_for(refs)
            raise

    def asked_for(self, refs: Sequence[CountedRef[Any]]) -> None:
        with self.lock:
            self.failures.asked([ref._entry for ref in refs if ref._entry.table is self.table])

    def wait(self, refs: list[Ref], num_returns: int, timeout_s: float | None) -> tuple[list[Ref], list[Ref]]:
        if self.closed:
            self._check_open()
        if self.guarded and timeout_s != 0:
            self.check_blocking("ray.wait")
        with self.lock:
            last, self._rest = self._rest, NO_REST
        entries = last.entries_of(refs)
        known = entries is not None
        if entries is None:
            entries = list(map(_entry_of, refs))
        ready = _first_ready(entries, num_returns)
        if len(ready) < num_returns and timeout_s != 0:
            pending = {entry for entry in entries if not entry.status}
            self._wait_group(pending, num_returns - (len(entries) - len(pending)), timeout_s)
            ready = _first_ready(entries, num_returns)
        elif len(ready) < num_returns:
            self._want(entries)
        for index in ready:  # what is left of another session is never pending, so the others are of this one
            if entries[index].table is not self.table:
                self._own_entry(refs[index])
        if len(ready) != 1:
            return _split(refs, ready)
        index = ready[0]
        rest = refs[:]
        del rest[index]
        if len(rest) >= REMEMBERED_REFS:
            del entries[index]
            self._rest = last.without(index, rest) if known else Rest(rest, rest[:], entries)
        return [refs[index]], rest

    def remembers(self, refs: list[ObjectRef[Any]]) -> bool:
        """Whether ``refs`` is the list that ``wait`` returned last, unchanged: it needs no check."""
        return self._rest.entries_of(refs) is not None

    def _want(self, entries: Sequence[ObjectEntry]) -> None:
        """Have values of borrowed objects sent, so that a poll can succeed one day."""
        if self.objects.borrows:
            with self.lock:
                for entry in entries:
                    self.objects.want(entry)

    def wait_for_next(self, ref: CountedRef[Any]) -> None:
        if self.closed:
            self._check_open()
        if self.guarded:
            self.check_blocking(NextWaiter.call)
        self._wait_entry(self._own_entry(ref), None, NextWaiter)

    def wait_for(self, entry: ObjectEntry) -> None:
        """Wait until an object is complete."""
        self._wait_entry(entry, None)

    def _wait_entry(self, entry: ObjectEntry, timeout_s: float | None, kind: type[Waiter] = Waiter) -> bool:
        if timeout_s == 0:
            self._want((entry,))
            return bool(entry.status)
        with self.lock:
            waiter = kind(1, (entry,))
            if not entry.call_when_done(waiter):
                return True
        try:
            if self.objects.borrows:
                self._want((entry,))  # may fail it at once
            return self.block(waiter, timeout_s)
        finally:
            if not entry.status:
                with self.lock:
                    remove_waiter(entry, waiter)

    def _wait_group(
        self, pending: set[ObjectEntry], needed: int, timeout_s: float | None, *, or_failure: bool = False
    ) -> bool:
        """Wait until ``needed`` of ``pending`` are complete, or, if asked to, until one has failed."""
        if timeout_s == 0:
            self._want(list(pending))
            return needed <= 0
        with self.lock:
            table = self.table
            while True:
                seen = table.completions
                completed = [entry for entry in pending if entry.status]
                left = needed - len(completed)
                if left <= 0 or (or_failure and any(entry.status == FAILED for entry in completed)):
                    return True
                waiter = (AllOrFailureWaiter if or_failure else GroupWaiter)(pending, left)
                watchers = (*table.watchers, waiter)
                if table.completions == seen:  # else a call that has interrupted this one has completed some
                    table.watchers = watchers
                    break
        try:
            if self.objects.borrows:
                self._want(list(pending))  # may fail some at once
            return self.block(waiter, timeout_s)
        finally:
            with self.lock:
                self.table.watchers = tuple(watcher for watcher in self.table.watchers if watcher is not waiter)


def _first_ready(entries: list[ObjectEntry], limit: int) -> list[int]:
    ready = []
    for index, entry in enumerate(entries):
        if entry.status:
            ready.append(index)
            if len(ready) == limit:
                break
    return ready


def _split(refs: list[Any], ready: list[int]) -> tuple[list[Any], list[Any]]:
    chosen = set(ready)
    return [refs[index] for index in ready], [ref for index, ref in enumerate(refs) if index not in chosen]
