"""Reference counting by owner, with credits for borrowers.

Rules:

1. The process that creates an id owns it; every other process that holds it is a borrower.
2. An entry lives while one of these is above zero: local refs (Python objects in this process), pins (unfinished tasks
   that use it, and objects whose value contains it), credits (borrowers, at the owner only).
3. A process that hands a ref to another one registers one credit under the receiver's id with the owner before it
   lets go of its own hold. The receiver returns all credits it was given when it lets go. Credits are summed, so the
   order in which grants and returns of different senders arrive does not matter; a sum may be negative for a moment.
4. Refs in the arguments of a running task are covered by the pins of its submitter, where that owns the objects; only
   what the worker keeps beyond the end of the task becomes a credit (the reply lists it). Those that the submitter has
   only borrowed are handed over by rule 3: it may die before the worker does.
5. A ref on its way to the owner is covered by its sender. A borrower's own credits come back behind it. What an owner
   sends to itself, as it may run the tasks that it has submitted, has a credit under its own id; the ref says so, and
   the credit ends when the ref is held where it has arrived.
6. Objects whose values hold each other's refs keep each other until the session ends; only a result can do that.

Every change of an entry is a method of ``ReferenceTable``, but for two: ``ObjectRef`` counts ``local``, and the owner
of a stream adds the entry that comes next (``Streaming.on_yielded``): no call may come between that and what goes with
it.

The caller serialises calls; only ``ObjectEntry.local`` and ``ReferenceTable.dropped`` are touched by any thread, in
steps that CPython does not interrupt. Finalisers may interrupt the caller, and change the table in its stead: a look
and the steps behind it have no call in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ray.ids import PROCESS_ID_BYTES
from ray.protocol.story import check

if TYPE_CHECKING:
    from ray.serialization.blob import Blob

PENDING, READY, FAILED, STORED, AWAY = range(5)
#: {(status, the status that follows): the methods of the table that bring it about}; None: there is no entry yet. An
#: entry that is let go of keeps the status that it has: ``freed`` says so.
TRANSITIONS: Mapping[tuple[int | None, int], tuple[str, ...]] = {
    (None, PENDING): ("own", "borrow", "unwanted"),
    (None, READY): ("put",),
    (PENDING, READY): ("fill", "complete"),
    (PENDING, FAILED): ("fill", "complete"),
    (PENDING, STORED): ("fill_stored", "complete_stored"),
    (PENDING, AWAY): ("complete_away",),
}
_STATUSES = frozenset(status for _, status in TRANSITIONS)
#: Values from this size on live in the store rather than beside their entry.
LARGE_BYTES = 100 * 1024


class Place(NamedTuple):
    """Where a value is that is in the store of another node than its owner's, or than the borrower's."""

    node: bytes
    """The node's number."""
    key: bytes
    """What the store has it under."""
    nbytes: int
    edition: int


class Owner:
    """Another process, as the owner of what is borrowed from it."""

    __slots__ = ("address", "entries", "process")

    def __init__(self, process: bytes, address: str) -> None:
        #: Its id.
        self.process = process
        #: Where to dial it, as the first ref had it that came here.
        self.address = address
        #: {object id: entry} of what is borrowed.
        self.entries: dict[bytes, ObjectEntry] = {}


class Maker:
    """What an object comes from, as the runtime has it: a task, a stream, an actor. A table only lets go of it."""

    __slots__ = ()


class Watcher(Protocol):
    """A thread that waits for several entries."""

    def completed(self, entry: ObjectEntry) -> None: ...


class ObjectEntry:
    """What a process knows about one object. ``status`` moves once, from PENDING on: see ``TRANSITIONS``."""

    __slots__ = (
        "contained",
        "credits",
        "freed",
        "handed",
        "id",
        "local",
        "nbytes",
        "owner",
        "pins",
        "status",
        "table",
        "task",
        "value",
        "waiters",
    )

    #: STORED, AWAY: the size of the value, which is in a store; else there is none.
    nbytes: int

    def __init__(self, id: bytes, table: ReferenceTable, owner: Owner | None = None) -> None:
        self.id = id
        self.table = table
        #: The process whose id the object's begins with; None where this is it.
        self.owner = owner
        self.status = PENDING
        #: READY: the blob, but none where handles of an actor are counted. FAILED: the error envelope. Else None, as of
        #: an entry that has been let go of.
        self.value: Blob | None = None
        self.local = 0
        self.pins = 0
        self.freed = False
        #: Called once with the entry when it is no longer PENDING: [callable] or None.
        self.waiters: list[Callable[[ObjectEntry], None]] | None = None
        #: At the owner: {process id of a borrower: credits outstanding}; at a borrower: None.
        self.credits: dict[bytes, int] | None = None
        #: Borrower: credits to return to the owner at the end.
        self.handed = 0
        #: Entries that this object's value refers to, each pinned once.
        self.contained: tuple[ObjectEntry, ...] = ()
        #: What the object comes from, while that matters: the unfinished task of this process that makes it, or the
        #: actor whose handles are counted. Of what a task has made: the task's name, for the error if it is unreadable.
        self.task: Maker | str | None = None

    def failure(self) -> Blob:
        """The error envelope, of an entry that is FAILED and that the caller holds."""
        envelope = self.value
        assert envelope is not None
        return envelope

    def size(self) -> int:
        """The size of its value in bytes, if there is one."""
        return self.nbytes if self.status >= STORED else len(self.value or b"")

    def call_when_done(self, call: Callable[[ObjectEntry], None]) -> bool:
        """Have ``call`` called once with this entry when it is no longer PENDING; False, without effect, if it is not.

        In one go: code that interrupts the caller may complete the entry.
        """
        first = [call]
        if self.status:
            return False
        if self.waiters is None:
            self.waiters = first
        else:
            self.waiters.append(call)
        return True


class ReferenceTable:
    """All entries of one process in one session."""

    def __init__(self) -> None:
        #: {object id: entry}
        self.entries: dict[bytes, ObjectEntry] = {}
        #: {object id: where it is} of the entries that are AWAY.
        self.places: dict[bytes, Place] = {}
        #: Entries whose last local ref has gone since the last ``collect``. Appended to by ``ObjectRef.__del__``.
        self.dropped: deque[ObjectEntry] = deque()
        #: Threads that wait for several entries: told of every completion (``completed(entry)``).
        #: Replaced, not changed: some may come or go while the others are told.
        self.watchers: tuple[Watcher, ...] = ()
        #: Entries completed so far: tells a thread that looks at several whether any has changed meanwhile.
        self.completions = 0
        #: How many of the entries' waiters are callbacks of code that waits without a thread.
        self.listeners = 0
        #: {process id of a borrower: {object id: entry}} of the entries with credits under that id.
        self._lent: dict[bytes, dict[bytes, ObjectEntry]] = {}
        #: {process id: owner} of those that something is borrowed from.
        self._borrowed: dict[bytes, Owner] = {}
        self.closed = False

    # --- objects ------------------------------------------------------------------------------------------------------

    def own(self, id: bytes) -> ObjectEntry:
        """Add an object of this process."""
        entry = self.entries[id] = ObjectEntry(id, self)
        return entry

    def put(self, id: bytes, value: Blob | None) -> ObjectEntry:
        """Add an object of this process that is READY."""
        entry = self.entries[id] = ObjectEntry(id, self)
        entry.value = value
        entry.status = READY
        return entry

    def unwanted(self) -> ObjectEntry:
        """An entry of an object that nobody here holds, or will: what arrives for it is let go of."""
        entry = ObjectEntry(b"", self)
        entry.freed = True
        return entry

    def fill(self, entry: ObjectEntry, status: int, value: Blob | None) -> None:
        """Move an entry out of PENDING where nobody can wait for it yet."""
        entry.value = value
        entry.status = status

    def fill_stored(self, entry: ObjectEntry, nbytes: int) -> None:
        """The same for a value of ``nbytes`` that is in the node's store."""
        entry.nbytes = nbytes
        self.fill(entry, STORED, None)

    def complete(self, entry: ObjectEntry, status: int, value: Blob | None) -> None:
        """Move an entry out of PENDING and call its waiters; called under the runtime's lock."""
        entry.status = status
        entry.value = value
        entry.task = None
        self.completions += 1
        for watcher in self.watchers:
            watcher.completed(entry)
        waiters = entry.waiters
        if waiters is not None:
            entry.waiters = None
            for waiter in waiters:
                waiter(entry)

    def complete_stored(self, entry: ObjectEntry, nbytes: int) -> None:
        """``complete`` for a value of ``nbytes`` that is in the node's store."""
        entry.nbytes = nbytes
        self.complete(entry, STORED, None)

    def complete_away(self, entry: ObjectEntry, place: Place) -> None:
        """``complete`` for a value that is in the store of another node, or of this one under another key."""
        entry.nbytes = place.nbytes
        self.places[entry.id] = place
        self.complete(entry, AWAY, None)

    def take_place(self, entry: ObjectEntry) -> Place | None:
        """Where the value of an entry is that is AWAY, and is let go of; once."""
        return self.places.pop(entry.id, None)

    def drop_value(self, entry: ObjectEntry) -> None:
        """Nobody reads it any more."""
        entry.value = None

    # --- holds --------------------------------------------------------------------------------------------------------

    def borrow(self, id: bytes, address: str, credits: int = 0) -> ObjectEntry:
        """Find or add an object of another process (or of this one, when a ref comes home), and pin it.

        ``address`` says where to dial the owner. The caller ends that hold when there is another one.
        """
        entries, borrowed = self.entries, self._borrowed
        entry = self.hold(id)
        while entry is None:
            made = ObjectEntry(id, self)
            process = id[:PROCESS_ID_BYTES]
            owner = None if process in borrowed else Owner(process, address)
            if id not in entries:  # no call comes from here on
                if owner is None or process in borrowed:
                    owner = borrowed[process]
                else:
                    borrowed[process] = owner
                made.owner = owner
                entries[id] = owner.entries[id] = made
            entry = self.hold(id)
        if entry.owner is not None:
            entry.handed += credits
        return entry

    def hold(self, id: bytes) -> ObjectEntry | None:
        """Find an object and pin it: from here on nobody that interrupts the caller frees it."""
        entry = self.entries.get(id)
        if entry is None or entry.freed:
            return None
        entry.pins += 1
        return entry

    def pin(self, entries: Iterable[ObjectEntry]) -> None:
        """Hold entries for a task or a containing object."""
        for entry in entries:
            entry.pins += 1

    def unpin(self, entries: Iterable[ObjectEntry]) -> None:
        """End one hold each."""
        for entry in entries:
            entry.pins -= 1
            if not entry.pins and not entry.local:
                self.dropped.append(entry)

    def set_contained(self, entry: ObjectEntry, inner: Iterable[ObjectEntry]) -> None:
        """Record, and pin, the entries that ``entry``'s value refers to; a ref to itself holds nothing.

        Nothing is recorded where the entry has been freed, or that was done before.
        """
        held = tuple([other for other in inner if other is not entry])
        self.pin(held)
        if not (entry.freed or entry.contained):
            entry.contained = held
        else:
            self.unpin(held)

    def grant(self, entry: ObjectEntry, borrower: bytes, credits: int = 1) -> None:
        """At the owner: the process ``borrower`` holds ``credits`` more."""
        id, lent = entry.id, self._lent
        new: dict[bytes, int] = {}
        first = {id: entry}  # where a finaliser may come; from here on none comes in between
        table = entry.credits
        if table is None:
            table = entry.credits = new
        total = (table[borrower] if borrower in table else 0) + credits  # noqa: SIM401 - which is a call
        if total:
            table[borrower] = total
            if borrower in lent:
                lent[borrower][id] = entry
            else:
                lent[borrower] = first
            return
        if borrower in table:
            del table[borrower]
        if borrower in lent:
            if id in lent[borrower]:
                del lent[borrower][id]
            if not lent[borrower]:
                del lent[borrower]
        if not table:
            entry.credits = None
            self.dropped.append(entry)

    def take_back(self, id: bytes, borrower: bytes, credits: int) -> None:
        """At the owner: ``borrower`` returns ``credits``. Unknown ids are freed already and ignored."""
        entry = self.entries.get(id)
        if entry is not None:
            self.grant(entry, borrower, -credits)

    def arrived(self, id: bytes, owner: bytes, credits: int) -> None:
        """At the owner: a ref that it has sent to itself is here, and held. ``owner`` is its own id.

        If its connection to itself was lost on the way, that has ended the credits already.
        """
        entry = self.entries.get(id)
        if entry is not None and entry.credits and owner in entry.credits:
            self.grant(entry, owner, -credits)

    def borrower_lost(self, borrower: bytes) -> None:
        """At the owner: the process is gone and holds nothing any more. Costs what it held."""
        lent = self._lent
        while True:
            if borrower not in lent:
                return
            for entry in list(lent[borrower].values()):
                credits = entry.credits
                if credits is not None and borrower in credits:
                    self.grant(entry, borrower, -credits[borrower])

    def lent_to(self, borrower: bytes) -> dict[bytes, int]:
        """At the owner: {object id: credits} of a process."""
        lent = list(self._lent.get(borrower, {}).items())
        return {id: (entry.credits or {}).get(borrower, 0) for id, entry in lent}

    def owner_lost(self, owner: bytes) -> list[ObjectEntry]:
        """At a borrower: the process is gone. Returns the entries of its objects, which owe it nothing any more."""
        if owner not in self._borrowed:
            return []
        found = list(self._borrowed[owner].entries.values())
        for entry in found:
            entry.handed = 0
        return found

    def hand_on(self, entry: ObjectEntry) -> None:
        """At a borrower: it holds one credit more, which the owner is told of."""
        entry.handed += 1

    def take_handed(self, entry: ObjectEntry) -> int:
        """At a borrower that lets go: how many credits it has to return, once."""
        handed = entry.handed
        entry.handed = 0
        return handed

    def collect(self) -> Iterator[ObjectEntry]:
        """Remove and yield every entry that nobody holds any more; the shell frees its value or returns its credits.

        Contained entries follow iteratively, so depth is no limit.
        """
        dropped = self.dropped
        entries = self.entries
        while True:
            if not dropped:  # not in the loop's head: a finaliser may come between that and what follows
                return
            entry = dropped.popleft()
            if entry.local or entry.pins or entry.credits or entry.freed:
                continue
            if entry.id in entries and entries[entry.id] is entry:
                del entries[entry.id]
            entry.freed = True
            if entry.owner is not None:
                self._forget_borrowed(entry, entry.owner)
            if entry.contained:
                self.unpin(entry.contained)
                entry.contained = ()
            yield entry

    def _forget_borrowed(self, entry: ObjectEntry, owner: Owner) -> None:
        id, of_owner = entry.id, owner.entries
        if id in of_owner and of_owner[id] is entry:
            del of_owner[id]
        if not of_owner:
            process, borrowed = owner.process, self._borrowed
            if process in borrowed and borrowed[process] is owner:
                del borrowed[process]

    def validate(self) -> None:
        """Check the invariants, where no call is under way.

        Raises:
            AssertionError: one does not hold.
        """
        for id, entry in self.entries.items():
            check(entry.id == id and entry.table is self, "an entry is kept by another one's id, or in another table")
            wrong = self._wrong_with(entry)
            if wrong:
                raise AssertionError(wrong)
        lent = sum(len(entries) for entries in self._lent.values())
        check(lent == sum(len(entry.credits or ()) for entry in self.entries.values()), "credits of what is not here")

    def _wrong_with(self, entry: ObjectEntry) -> str:
        """What does not hold of an entry, if anything; simulations ask that of all entries again and again."""
        id, status, owner, credits = entry.id, entry.status, entry.owner, entry.credits
        if status not in _STATUSES:
            return f"an entry of status {status}"
        if entry.freed:
            return "an entry was let go of, and is kept"
        if entry.local < 0 or entry.pins < 0 or entry.handed < 0:
            return "a count is below zero"
        if entry.value is None:
            if status == FAILED:
                return "a failure without its reason"
        elif status not in (READY, FAILED):
            return "there is a value of what is not here"
        if status >= STORED and entry.nbytes < 0:
            return "an object in the store without a size"
        if (status == AWAY) != (id in self.places):
            return "an object is away, and nobody knows where"
        if status != PENDING and entry.waiters is not None:
            return "a waiter of what is complete"
        for borrower in credits or ():
            if self._lent.get(borrower, {}).get(id) is not entry:
                return "a borrower's credits are not found by its id"
        if owner is None:
            return "an object's own process owes credits for it" if entry.handed else ""
        if self._borrowed.get(owner.process) is not owner:
            return "the owner of an object is not known"
        if owner.entries.get(id) is not entry:
            return "a borrowed object is not found by its owner"
        return "" if credits is None else "an object is lent that is borrowed"

    def close(self) -> None:
        """End of the session: refs that survive are dead and only answer for their id."""
        self.closed = True
        self.entries.clear()
        self.places.clear()
        self.dropped.clear()
        self._lent.clear()
        self._borrowed.clear()
