"""``get`` and ``wait`` of an owner."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ray.clock import monotonic
from ray.exceptions import RayError
from ray.messages.objects import ARGUMENT
from ray.protocol.references import AWAY, FAILED, STORED, ObjectEntry
from ray.runtime.owner.arrival_waiter import ArrivalWaiter
from ray.runtime.owner.entries import entry_in
from ray.runtime.owner.lacking import timed_out
from ray.runtime.owner.records import TaskRecord
from ray.runtime.owner.unreadable import error_of
from ray.runtime.process.waiting import AllOrFailureWaiter, GroupWaiter, NextWaiter, Waiter, remove_waiter
from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.refs.session import Ref

if TYPE_CHECKING:
    from ray.protocol.references import ReferenceTable
    from ray.runtime.owner.borrowing import Borrowing
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.host import Host
    from ray.runtime.owner.values import Values

#: A list of at least this many refs is worth remembering, for this long.
REMEMBERED_REFS = 64
REMEMBERED_S = 0.04

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


class Access:
    """Waits for objects, and gives their values. Its public methods are those of ``Runtime``."""

    def __init__(
        self, here: Here, host: Host, lock: Any, table: ReferenceTable, values: Values, borrowing: Borrowing
    ) -> None:
        self._here = here
        self._host = host
        self._lock = lock
        self._table = table
        self._values = values
        self._borrowing = borrowing
        self._rest = NO_REST

    def forget_rest(self) -> None:
        """Let go of what ``wait`` returned a while ago; called by the thread that polls."""
        if self._rest is not NO_REST and monotonic() - self._rest.made > REMEMBERED_S:
            self._rest = NO_REST

    def get_one(self, ref: CountedRef[Any], timeout_s: float | None, copy: bool = False) -> Any:
        if self._host.guarded and timeout_s != 0:
            self._host.check_blocking("ray.get")
        entry = ref._entry
        if entry.table is not self._table:
            entry_in(self._table, ref)
        if not entry.status:
            # The collector may have finalised ``ref``, together with the object whose destructor asks.
            held: ObjectRef[Any] = ObjectRef(entry)
            end = None if timeout_s is None else monotonic() + timeout_s
            if not self.wait_entry(entry, timeout_s) and not entry.status:
                raise timed_out(timeout_s, (entry,), 1, self._host.trouble)
            return self._values.value(held._entry, copy, timeout_s, end)
        return self._values.value(entry, copy, timeout_s)

    def get_done(self, ref: CountedRef[Any], timeout_s: float | None = None) -> Any:
        entry = ref._entry
        if entry.status != AWAY or entry.table is not self._table:
            return self.get_one(ref, 0)
        held: ObjectRef[Any] = ObjectRef(entry)  # see ``get_one``
        return self._values.value(held._entry, False, timeout_s)

    def get(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None, copy: bool = False) -> list[Any]:
        if self._host.guarded and timeout_s != 0:
            self._host.check_blocking("ray.get")
        end = None if timeout_s is None else monotonic() + timeout_s
        entries = list(map(_entry_of, refs))
        if set(map(_table_of, entries)) != {self._table}:
            for ref in refs:
                entry_in(self._table, ref)
        pending = {entry for entry in entries if not entry.status}
        value = self._values.value
        if pending:
            failed = len(pending) < len(entries) and FAILED in map(_status_of, entries)
            if not failed and not self._wait_group(pending, len(pending), timeout_s, or_failure=True):
                unfinished = [entry for entry in dict.fromkeys(entries) if not entry.status]
                if unfinished:  # else the last ones have become ready since
                    raise timed_out(timeout_s, unfinished, len(set(entries)), self._host.trouble)
        try:
            if pending and FAILED in map(_status_of, entries):
                for entry in entries:
                    if entry.status == FAILED:
                        value(entry)
            if self._table.places and AWAY in map(_status_of, entries):
                return self._with_away(entries, timeout_s, end, copy)
            return [value(entry, copy) for entry in entries]
        except RayError:
            self.asked_for(refs)
            raise

    def _with_away(
        self, entries: Sequence[ObjectEntry], timeout_s: float | None, end: float | None, copy: bool
    ) -> list[Any]:
        """The same where values may have to come from other nodes: all at a time."""
        value, away = self._values.value, self._values.away
        away.begin(entry for entry in entries if entry.status == AWAY)
        return [value(entry, copy, timeout_s, end) for entry in entries]

    def asked_for(self, refs: Sequence[CountedRef[Any]]) -> None:
        """See ``Runtime``. Nor those that are yet to fail need be printed."""
        with self._lock:
            for ref in refs:
                entry = ref._entry
                if entry.table is not self._table:
                    continue
                if entry.status == FAILED:
                    self._borrowing.retrieved(entry)
                elif type(entry.task) is TaskRecord:
                    entry.task.asked = True

    def wait(
        self, refs: list[Ref], num_returns: int, timeout_s: float | None, fetch: bool = False
    ) -> tuple[list[Ref], list[Ref]]:
        if self._here.closed:
            self._host.check_open()
        if self._host.guarded and timeout_s != 0:
            self._host.check_blocking("ray.wait")
        if fetch:
            return self._wait_here(refs, num_returns, timeout_s)
        with self._lock:
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
            if entries[index].table is not self._table:
                entry_in(self._table, refs[index])
        if len(ready) != 1:
            return _split(refs, ready)
        index = ready[0]
        rest = refs[:]
        del rest[index]
        if len(rest) >= REMEMBERED_REFS:
            del entries[index]
            self._rest = last.without(index, rest) if known else Rest(rest, rest[:], entries)
        return [refs[index]], rest

    def _wait_here(self, refs: list[Ref], num_returns: int, timeout_s: float | None) -> tuple[list[Ref], list[Ref]]:
        """The same where what is ready has to be on this node as well, and is brought here."""
        entries = [entry_in(self._table, ref) for ref in refs]
        waiter = ArrivalWaiter(num_returns, entries, self._values.away)
        try:
            with self._lock:
                waiter.begin()
            self._want(entries)  # may fail some at once
            if timeout_s != 0:
                self._host.block(waiter, timeout_s)
            with self._lock:
                here = set(waiter.here)
            ready = [index for index, entry in enumerate(entries) if entry in here][:num_returns]
            return _split(refs, ready)
        finally:
            with self._lock:
                waiter.end()

    def remembers(self, refs: list[ObjectRef[Any]]) -> bool:
        """Whether ``refs`` is the list that ``wait`` returned last, unchanged: it needs no check."""
        return self._rest.entries_of(refs) is not None

    def _want(self, entries: Sequence[ObjectEntry]) -> None:
        """Have values of borrowed objects sent, so that a poll can succeed one day."""
        if self._borrowing.borrows:
            with self._lock:
                for entry in entries:
                    self._borrowing.want(entry)

    def wait_for_next(self, ref: CountedRef[Any]) -> None:
        if self._here.closed:
            self._host.check_open()
        if self._host.guarded:
            self._host.check_blocking(NextWaiter.call)
        self.wait_entry(entry_in(self._table, ref), None, NextWaiter)

    def blob_of(self, object_id: bytes, owner: str) -> Any:
        """The value's bytes of an object that another process owns and keeps for now; waits for it.

        Raises:
            OwnerDiedError: its owner has died.
        """
        blob = self._values.view(object_id) if self._values.shared else None
        if blob is not None:
            return blob
        ref: ObjectRef[Any] = self._borrowing.rebuild(object_id, owner)
        entry = ref._entry
        if not entry.status:
            self.wait_entry(entry, None)
        if entry.status == FAILED:
            raise error_of(entry)
        if entry.status == AWAY:
            return self._values.away.blob(entry, None, ARGUMENT)
        return self._values.stored_blob(object_id) if entry.status == STORED else entry.value

    def wait_entry(self, entry: ObjectEntry, timeout_s: float | None, kind: type[Waiter] = Waiter) -> bool:
        """Wait until an object is complete; False if the time was over first."""
        if timeout_s == 0:
            self._want((entry,))
            return bool(entry.status)
        with self._lock:
            waiter = kind(1, (entry,))
            if not entry.call_when_done(waiter):
                return True
        try:
            if self._borrowing.borrows:
                self._want((entry,))  # may fail it at once
            return self._host.block(waiter, timeout_s)
        finally:
            if not entry.status:
                with self._lock:
                    remove_waiter(entry, waiter)

    def _wait_group(
        self, pending: set[ObjectEntry], needed: int, timeout_s: float | None, *, or_failure: bool = False
    ) -> bool:
        """Wait until ``needed`` of ``pending`` are complete, or, if asked to, until one has failed."""
        if timeout_s == 0:
            self._want(list(pending))
            return needed <= 0
        with self._lock:
            table = self._table
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
            if self._borrowing.borrows:
                self._want(list(pending))  # may fail some at once
            return self._host.block(waiter, timeout_s)
        finally:
            with self._lock:
                self._table.watchers = tuple(watcher for watcher in self._table.watchers if watcher is not waiter)


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
