"""Refs across processes: values asked for and sent, credits, and the losses of processes that hold or own.

Under the runtime's lock, unless a method says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from ray.exceptions import ObjectLostError, OwnerDiedError, RayError, RemoteProtocolError
from ray.headroom import SENDING, check
from ray.ids import OBJECT_ID_BYTES, PROCESS_ID_BYTES, node_of
from ray.messages import codec, wire
from ray.protocol.claims import Claims, Lost
from ray.protocol.references import AWAY, FAILED, PENDING, READY, STORED, Maker, ObjectEntry
from ray.runtime.owner.away import place_of
from ray.runtime.owner.entries import entry_in
from ray.runtime.owner.handed_refs import address_of_owner, describe, handed_over, take_note
from ray.runtime.owner.ref_pickling import rebuild_ref
from ray.runtime.owner.shortage import AGAIN_S
from ray.runtime.process.own_faults import CutOffError, OwnFaultError
from ray.runtime.refs.ref import ObjectRef

if TYPE_CHECKING:
    from ray.protocol.references import ReferenceTable
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.records import TaskRecord
    from ray.runtime.process.peers import Peer, PeerTable
    from ray.runtime.process.timers import Timers
    from ray.runtime.refs.counted import CountedRef

#: A process that keeps a ref which it has from somebody else than the owner, on another node, says so after this time.
HOLDS_S = 0.05
#: What a process of another node held is struck out so long after its end is known: what others hold is known by then.
STRIKE_S = 2.0
#: Marks a borrowed entry whose value has been asked for.
_WANTED = Maker()


class Reports(Protocol):
    """Makes envelopes of errors, and tells of those that nobody asks for."""

    def envelope(self, error: RayError, name: str, task_id: bytes, attempt: int) -> bytes: ...
    def retrieved(self, entry: ObjectEntry) -> None: ...


class Borrowing:
    """What this process lends to others, and borrows from them."""

    def __init__(
        self,
        here: Here,
        table: ReferenceTable,
        peers: PeerTable,
        reports: Reports,
        timers: Timers,
        expect: Callable[[ObjectEntry], None] | None,
        before_send: Callable[[Peer], None],
        lock: Any,
    ) -> None:
        """Make one.

        Args:
            here: this process.
            table: its objects.
            peers: the others.
            reports: as it says.
            timers: the runtime's.
            expect: told of objects that their owners were asked for: they may be in the store that the processes of the
                node share. None if they share none.
            before_send: sends what is to come before any word to an owner.
            lock: the runtime's.
        """
        self._here = here
        self._node = node_of(here.process_id)
        self._table = table
        self._peers = peers
        self._reports = reports
        self._timers = timers
        self._expect = expect
        self._before_send = before_send
        self._lock = lock
        #: Whether this process has ever borrowed an object.
        self.borrows = False
        #: What borrowers of other nodes say that they hold.
        self.claims = Claims(table)
        #: {object id: entry} of what is about to be claimed.
        self._unclaimed: dict[bytes, ObjectEntry] = {}
        #: {object id: {process of another node than its owner's: credits that it has handed to this one}}
        self._given: dict[bytes, dict[bytes, int]] = {}

    def retrieved(self, entry: ObjectEntry) -> None:
        """A failure is raised to the user, or asked for: no need to print it, here or by its owner.

        With or without the lock.
        """
        self._reports.retrieved(entry)
        owner = entry.owner
        if owner is not None and owner.process in self._peers.by_process and not self._here.closed:
            # It may have come with the ref, and the owner does not know that it is asked for. An owner without a
            # connection may be dead: this does not wait for one.
            with self._lock:
                self.send_to_owner(entry, wire.Fetch(entry.id))

    def want(self, entry: ObjectEntry) -> None:
        """Have the owner send the value of a borrowed entry as soon as there is one."""
        if entry.owner is not None and entry.status == PENDING and entry.task is None:
            check(SENDING)
            entry.task = _WANTED
            self.send_to_owner(entry, wire.Fetch(entry.id))
            if self._expect is not None and entry.status == PENDING and node_of(entry.id) == self._node:
                self._expect(entry)

    def send_to_owner(self, entry: ObjectEntry, message: Any) -> None:
        """Send to the owner; if it is dead the entry fails."""
        owner = entry.owner
        assert owner is not None
        try:
            peer = self._peers.reach(owner.process, owner.address)
            self._before_send(peer)  # a result that brings the object home must not come after the credit's return
            peer.send(message)
        except ConnectionError as error:
            self._decided(entry, message, error)
            return
        if not peer.stands:
            self._peers.on_decision(peer, object(), lambda error: self._decided(entry, message, error))

    def _decided(self, entry: ObjectEntry, message: Any, error: ConnectionError | None) -> None:
        """It is known whether the owner is reached, and so whether that was sent."""
        if isinstance(error, OwnFaultError):
            self._not_reached(entry, message, error)
        elif error is not None:
            self.fail(entry, OwnerDiedError(entry.id))

    def _not_reached(self, entry: ObjectEntry, message: Any, error: OwnFaultError) -> None:
        """That is not the owner's fault, and may pass."""

        def send() -> None:
            if entry.status == PENDING:
                self.send_to_owner(entry, message)

        if isinstance(error, CutOffError) and entry.status == PENDING and not error.lasts:
            self._timers.after(AGAIN_S, send)
        else:
            self.fail(entry, error.kind(str(error)))

    def lost(self, entry: ObjectEntry, reason: str) -> None:
        """Nobody will ever make this object."""
        self.fail(entry, ObjectLostError(entry.id, reason))

    def fail(self, entry: ObjectEntry, error: RayError) -> None:
        """End an object that is not there yet with an error."""
        if entry.status == PENDING:
            entry.table.complete(entry, FAILED, self._reports.envelope(error, "", entry.id[:16], 0))

    def on_fetched(self, peer: Peer, message: wire.Fetched, frames: Any) -> None:
        """An owner sent a value."""
        entry = self._table.entries.get(message.id)
        if message.status not in (READY, STORED, FAILED) and (message.status != AWAY or message.away is None):
            raise RemoteProtocolError(f"an object of status {message.status}")
        if entry is None or entry.status != PENDING or entry.owner is None:
            self.drop_refs(message.refs)  # nobody waits any more; only the refs inside are taken, and returned
            return
        self.receive_refs(entry, message.refs, credits=1, giver=peer.process)
        value = None if message.status >= STORED else codec.detach(message.data or b"", frames)
        if entry.status != PENDING:
            return
        if message.away is not None:
            entry.table.complete_away(entry, place_of(entry.id, message.away))
        elif message.status == STORED:
            entry.table.complete_stored(entry, message.nbytes)
        else:
            entry.table.complete(entry, message.status, value)

    def hand_over(self, entries: Iterable[ObjectEntry], receiver: Peer) -> list[wire.Ref]:
        """Register a credit for ``receiver`` on each entry, and describe them for the wire."""
        refs, address, is_here = [], self._here.address, receiver.process == self._here.process_id
        for entry in entries:
            refs.append(describe(entry, address, 1 if is_here and entry.owner is None else 0, near=receiver.near))
            self._grant(entry, receiver)
        return refs

    def _grant(self, entry: ObjectEntry, receiver: Peer, credits: int = 1) -> None:
        process, address = receiver.process, receiver.address
        if entry.owner is None:
            self._table.grant(entry, process, credits)
            self._watch(process, address)
        elif entry.owner.process != process:
            self.send_to_owner(entry, wire.Credit(entry.id, process, credits, address))

    def _watch(self, borrower: bytes, address: str) -> None:
        """Keep a connection to a borrower: its loss tells that the credits are void."""
        try:
            self._peers.reach(borrower, address)
        except OwnFaultError:
            return  # its end may go unnoticed, and what it holds be kept
        except ConnectionError:
            self._table.borrower_lost(borrower)

    def receive_refs(self, entry: ObjectEntry, refs: Collection[wire.Ref], credits: int, giver: bytes = b"") -> None:
        """A value came with refs inside: hold them for as long as the value's entry lives; ``giver`` has sent it."""
        inner = [self._receive(ref, credits, giver) for ref in refs]
        if not inner:
            return
        table, here = self._table, self._here.process_id
        table.set_contained(entry, inner)
        table.unpin(inner)
        for ref in refs:
            if ref.credits and ref.id[:PROCESS_ID_BYTES] == here:
                table.arrived(ref.id, here, ref.credits)

    def keeps(self, entry: ObjectEntry, giver: bytes, credits: int) -> None:
        """A ref has come, with so many credits; its owner is told if it is still held in a while.

        So if it has come from a process of another node than its owner's: what is said within a node does not die with
        who has said it.
        """
        if entry.owner is None or node_of(giver) == node_of(entry.id):
            return
        given = self._given.setdefault(entry.id, {})
        given[giver] = given.get(giver, 0) + credits
        if not self._unclaimed:
            self._timers.after(HOLDS_S, self._claim)
        self._unclaimed[entry.id] = entry

    def _claim(self) -> None:
        unclaimed, self._unclaimed = self._unclaimed, {}
        for entry in unclaimed.values():
            if not entry.freed and entry.handed and entry.owner is not None:
                given = self._given.get(entry.id, {})
                self.send_to_owner(entry, wire.Holds(entry.id, entry.handed, list(given.items())))

    def give_back(self, entry: ObjectEntry, handed: int) -> None:
        """This process lets go of what it has borrowed, and was handed so many credits of."""
        given = list(self._given.pop(entry.id, {}).items())
        self.send_to_owner(entry, wire.Credit(entry.id, self._here.process_id, -handed, given=given))

    def on_holds(self, peer: Peer, message: wire.Holds, frames: Any) -> None:
        """A process keeps a ref of ours, which it has from one of another node."""
        self.claims.claim(message.id, peer.process, message.given)

    def drop_refs(self, refs: Iterable[wire.Ref]) -> None:
        """A value that nobody wants came with refs inside, of which the sender counts one credit each for us."""
        self.receive_refs(self._table.unwanted(), list(refs), credits=1)

    def _receive(self, ref: wire.Ref, credits: int, giver: bytes = b"") -> ObjectEntry:
        """The entry of a ref that arrived here, pinned, with what came along of its object."""
        entry = self.borrow(ref.id, ref.address, credits)
        if giver and node_of(giver) != node_of(ref.id) and entry.handed:
            self.keeps(entry, giver, credits)
        if ref.status:
            take_note(entry, ref, shared=self._expect is not None)
        return entry

    def borrow(self, id: bytes, address: str, credits: int = 0) -> ObjectEntry:
        """The entry of a ref that arrived here, pinned; ``address`` says where to dial its owner."""
        if len(id) != OBJECT_ID_BYTES:
            raise RemoteProtocolError(f"an object with an id of {len(id)} bytes")
        table = self._table
        if id[:PROCESS_ID_BYTES] != self._here.process_id:
            self.borrows = True
            return table.borrow(id, address, credits)
        entry = table.hold(id)
        if entry is None:
            entry = table.own(id)
            table.pin((entry,))
            self.lost(entry, "its owner has freed it")
        return entry

    def reduce(self, ref: CountedRef[Any], refs: list[Any] | None) -> tuple[Any, ...]:
        """See ``Runtime.reduce_ref``; without the lock."""
        entry = entry_in(self._table, ref)
        if refs is None:
            self._table.pin((entry,))  # nobody can know when the last copy of that pickle is gone
        else:
            refs.append(ref)
        return rebuild_ref, (entry.id, address_of_owner(entry, self._here.address))

    def find(self, id: bytes) -> ObjectEntry:
        """See ``Runtime.find_entry``; without the lock."""
        with self._lock:
            entry = self._table.entries.get(id)
            if entry is None:
                entry = self._table.own(id)
                self.lost(entry, "this process has never seen its id")
            return entry

    def rebuild(self, id: bytes, address: str) -> ObjectRef[Any]:
        """What a pickled ref becomes in this process; without the lock."""
        with self._lock:
            entry = self.borrow(id, address)
            ref: ObjectRef[Any] = ObjectRef(entry)
            self._table.unpin((entry,))
            return ref

    def hand_over_arguments(self, record: TaskRecord, receiver: Peer, handed: set[tuple[bytes, int]]) -> None:
        """The refs in arguments of ours are covered by our pins; those that we only borrow must survive our death.

        ``handed``: (task id, place) of those that are handed over. What is interrupted and done anew leaves them out.
        """
        if self.borrows:
            for place, entry in enumerate(handed_over(record, receiver.process)):
                if (key := (record.id, place)) not in handed:
                    self._grant(entry, receiver)
                    if key in handed:  # so did a call that has interrupted this one
                        self._grant(entry, receiver, -1)
                    else:
                        handed.add(key)

    def receive_arguments(self, task: wire.Task, submitter: bytes = b"") -> list[ObjectEntry]:
        """Hold, for the time of a call, the argument refs that were handed over with it."""
        refs = (*task.refs, *(ref for dependency in task.deps for ref in dependency.refs))
        held = [self._receive(ref, ref.credits, submitter) for ref in refs if ref.credits or ref.status]
        for dependency in task.deps:
            if dependency.away is not None:  # while it is held, so is the copy that is brought here
                entry = self.borrow(dependency.id, dependency.address)
                held.append(entry)
                if entry.status == PENDING and entry.owner is not None:
                    entry.table.complete_away(entry, place_of(entry.id, dependency.away))
        return held

    def grant_kept(self, record: TaskRecord, kept: Iterable[bytes], worker: Peer) -> None:
        """A worker keeps refs it was given as arguments: their owners must know before our pins go."""
        held = {entry.id: entry for entry in record.refs}
        for _, dependency in record.deps:
            held.update((entry.id, entry) for entry in dependency.contained)
        for id in kept:
            entry = held.get(id)
            if entry is not None:
                self._grant(entry, worker)

    def take_late(self, ends: Iterable[wire.Done], worker: Peer) -> None:
        """What became of these tasks is decided: nobody wants the results, but what the worker keeps counts."""
        table = self._table
        for done in ends:
            for id in done.kept:
                entry = table.hold(id)
                if entry is not None:
                    self._grant(entry, worker)
                    table.unpin((entry,))
            self.drop_refs(ref for refs in done.refs for ref in refs)

    def on_credit(self, peer: Peer, message: wire.Credit, frames: Any) -> None:
        """A process hands over, or returns, a ref of ours."""
        table = self._table
        if message.credits < 0:
            table.take_back(message.id, message.borrower, -message.credits)
            if message.borrower != peer.process:  # a giver takes back what it has not sent
                self._told(peer, message)
            elif message.given or self.claims.held:  # within a node nothing is claimed
                self.claims.returned(message.id, message.borrower, message.given)
            return
        entry = table.entries.get(message.id)
        if entry is not None:
            table.grant(entry, message.borrower, message.credits)
            self._told(peer, message)
            self._watch(message.borrower, message.address)

    def _told(self, giver: Peer, message: wire.Credit) -> None:
        is_far = giver.process != message.borrower and node_of(giver.process) != self._node
        if is_far and message.id in self._table.entries:
            self.claims.told(message.id, message.borrower, giver.process, message.credits)

    def peer_lost(self, process: bytes) -> None:
        """A process is gone: it holds nothing any more, and what it owned is lost."""
        if node_of(process) == self._node:
            self.claims.let_go(process)
        else:  # others may hold what it has handed to them, and has not said so
            lost = self.claims.lose(process)
            self._timers.after(STRIKE_S, lambda: self._strike_out(lost))
        if self.borrows:
            # An owner that lives has lost the connection as well, and counts no credits of this process any more.
            for entry in self._table.owner_lost(process):
                self._given.pop(entry.id, None)
                self.fail(entry, OwnerDiedError(entry.id))

    def _strike_out(self, lost: Lost) -> None:
        self.claims.strike_out(lost, is_back=lost.process in self._peers.by_process)
