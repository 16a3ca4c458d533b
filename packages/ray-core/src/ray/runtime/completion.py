"""Waiting for objects: one lock per waiting thread, released by whoever completes the last object it needs."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Iterable

from ray.protocol.references import PENDING, ObjectEntry


class Waiter:
    """Counts completions of the entries it was added to. Called under the runtime's lock, waited for without it."""

    __slots__ = ("_gate", "needed", "wake")

    def __init__(self, needed: int) -> None:
        self.needed = needed
        #: Set while the waiting thread polls: makes it look at ``needed``.
        self.wake: Callable[[], None] | None = None
        self._gate = allocate_lock()
        self._gate.acquire()

    def __call__(self, entry: ObjectEntry) -> None:
        self.count()

    def count(self) -> None:
        """One of the awaited things has happened."""
        self.needed -= 1
        if not self.needed:
            self._gate.release()
            if self.wake is not None:
                self.wake()

    def block(self, timeout_s: float | None) -> bool:
        """Wait until enough are complete; False when the time is over. Interruptible by signals."""
        if timeout_s is None:
            return self._gate.acquire()
        return self._gate.acquire(timeout=min(timeout_s, 1e6))


class GroupWaiter(Waiter):
    """Waits for ``needed`` of a set of entries; listed with the table instead of with each entry."""

    __slots__ = ("entries",)

    def __init__(self, entries: set[ObjectEntry], needed: int) -> None:
        super().__init__(needed)
        self.entries = entries

    def completed(self, entry: ObjectEntry) -> None:
        """Some entry of the table is complete."""
        if entry in self.entries and self.needed:
            self.count()


def add_waiter(entries: Iterable[ObjectEntry], waiter: Waiter) -> None:
    """Have ``waiter`` called when each entry completes; the caller has checked that they are pending."""
    for entry in entries:
        if entry.waiters is None:
            entry.waiters = [waiter]
        else:
            entry.waiters.append(waiter)


def remove_waiter(entries: Iterable[ObjectEntry], waiter: Waiter) -> None:
    """Undo ``add_waiter`` after a time-out or an interrupt."""
    for entry in entries:
        if entry.status == PENDING and entry.waiters is not None:
            try:
                entry.waiters.remove(waiter)
            except ValueError:
                continue


def complete(entry: ObjectEntry, status: int, value: object) -> None:
    """Move an entry out of PENDING and tell those who wait; called under the runtime's lock."""
    entry.status = status
    entry.value = value
    entry.task = None
    if entry.table.watchers:
        for watcher in entry.table.watchers:
            watcher.completed(entry)
    waiters = entry.waiters
    if waiters is not None:
        entry.waiters = None
        for waiter in waiters:
            waiter(entry)
