"""Being told when an object is complete, for those who do not wait with a thread of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.headroom import SENDING, check
from ray.protocol.references import STORED
from ray.runtime.owner.arriving import OnDisk
from ray.runtime.owner.here import OwnerBase
from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.refs.session import Listener


class Subscription(OwnerBase):
    """The callback methods of an owner."""

    def knows(self, ref: CountedRef[Any]) -> bool:
        return ref._entry.table is self.table

    def is_done(self, ref: CountedRef[Any]) -> bool:
        entry = ref._entry
        if not entry.status and self.objects.borrows:
            with self.lock:
                self.objects.want(entry)
        return entry.status != 0

    def done_of(self, refs: Sequence[ObjectRef[Any]]) -> list[ObjectRef[Any]]:
        if self.objects.borrows:
            with self.lock:
                for ref in refs:
                    self.objects.want(ref._entry)
        return [ref for ref in refs if ref._entry.status]

    def subscribe(self, listener: Listener) -> bool:
        entry = self._own_entry(listener.ref)
        check(SENDING)
        with self.lock:
            if self.closed and not entry.status:
                self._check_open()
            if not entry.call_when_done(listener):
                return False
            self.table.listeners += 1
            self.objects.want(entry)  # may fail the object at once, and so tell
        self.polling.attend()
        return True

    def on_disk(self, ref: CountedRef[Any]) -> OnDisk | None:
        entry = ref._entry
        return self.objects.on_disk(entry.id) if entry.status == STORED else None

    def unsubscribe(self, listener: Listener) -> bool:
        with self.lock:
            waiters = listener.ref._entry.waiters
            if waiters is None or listener not in waiters:
                return False
            waiters.remove(listener)
            self.table.listeners -= 1
            return True
