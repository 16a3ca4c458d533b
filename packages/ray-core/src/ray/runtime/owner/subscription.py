"""Being told when an object is complete, for code that does not wait with a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ray.headroom import SENDING, check
from ray.protocol.references import AWAY, STORED, ReferenceTable
from ray.runtime.owner.arriving import OnDisk
from ray.runtime.owner.entries import entry_in
from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.refs.session import Listener

if TYPE_CHECKING:
    from ray.runtime.owner.borrowing import Borrowing
    from ray.runtime.owner.values import Values


class Subscription:
    """The listeners of one process. Its methods are those of ``Runtime``."""

    def __init__(
        self,
        table: ReferenceTable,
        lock: Any,
        values: Values,
        borrowing: Borrowing,
        check_open: Callable[[], None],
        attend: Callable[[], None],
    ) -> None:
        """Make one.

        Args:
            table: of the process.
            lock: the runtime's.
            values: in stores.
            borrowing: of refs of others.
            check_open: raises if the session has ended.
            attend: there is a listener: see to it that messages are taken.
        """
        self._table = table
        self._lock = lock
        self._values = values
        self._borrowing = borrowing
        self._check_open = check_open
        self._attend = attend

    def knows(self, ref: CountedRef[Any]) -> bool:
        """See ``Runtime``."""
        return ref._entry.table is self._table

    def is_done(self, ref: CountedRef[Any]) -> bool:
        """See ``Runtime``."""
        entry = ref._entry
        if not entry.status and self._borrowing.borrows:
            with self._lock:
                self._borrowing.want(entry)
        return entry.status != 0

    def done_of(self, refs: Sequence[ObjectRef[Any]]) -> list[ObjectRef[Any]]:
        """See ``Runtime``."""
        if self._borrowing.borrows:
            with self._lock:
                for ref in refs:
                    self._borrowing.want(ref._entry)
        return [ref for ref in refs if ref._entry.status]

    def subscribe(self, listener: Listener) -> bool:
        """See ``Runtime``."""
        entry = entry_in(self._table, listener.ref)
        check(SENDING)
        with self._lock:
            if not entry.status:
                self._check_open()
            if not entry.call_when_done(listener):
                return False
            if listener.prompt:
                self._table.listeners += 1
            self._borrowing.want(entry)  # may fail the object at once, and so tell
        if listener.prompt:
            self._attend()
        return True

    def on_disk(self, ref: CountedRef[Any]) -> OnDisk | None:
        """See ``Runtime``."""
        entry = ref._entry
        if entry.status < STORED:
            return None
        return self._values.away.arriving(entry) if entry.status == AWAY else self._values.on_disk(entry.id)

    def unsubscribe(self, listener: Listener) -> bool:
        """See ``Runtime``."""
        with self._lock:
            waiters = listener.ref._entry.waiters
            if waiters is None or listener not in waiters:
                return False
            waiters.remove(listener)
            if listener.prompt:
                self._table.listeners -= 1
            return True
