"""Objects across processes: values, refs in them, credits, frees; under the lock unless a method says otherwise."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from ray.abc.store import SHARED
from ray.clock import monotonic
from ray.exceptions import (
    BlockingCallError,
    NodeDiedError,
    ObjectExistsError,
    ObjectLostError,
    OwnerDiedError,
    RayConnectionError,
    RayError,
    RemoteProtocolError,
)
from ray.headroom import SENDING, check
from ray.ids import OBJECT_ID_BYTES
from ray.messages import codec, wire
from ray.protocol.references import FAILED, PENDING, READY, STORED, ObjectEntry
from ray.runtime.interface import STREAMING
from ray.runtime.owner.arriving import OnDisk, Restoring
from ray.runtime.owner.handed_refs import ActorLife, describe, handed_over, take_note
from ray.runtime.owner.records import TaskRecord
from ray.runtime.owner.store_looks import StoreLooks
from ray.runtime.owner.stored_views import StoredViews
from ray.runtime.owner.unreadable import error_of, raise_unreadable_value, why_lost
from ray.runtime.process.peers import OwnFaultError
from ray.runtime.process.waiting import Waiter
from ray.serialization import deserialize_aligned, deserialize_copy, open_envelope
from ray.serialization.blob import PICKLE, load_pickle

if TYPE_CHECKING:
    from ray.runtime.owner.owner import OwnerRuntime
    from ray.runtime.process.peers import Peer
    from ray.serialization import Serialized

#: Marks a borrowed entry whose value has been asked for.
_WANTED = object()


class ObjectExchange:
    """The object half of an owner."""

    def __init__(self, runtime: OwnerRuntime) -> None:
        self._runtime = runtime
        #: Whether large values are in memory that every process of the node sees.
        self.shared = SHARED in runtime.store.capabilities
        self.views = StoredViews(runtime.store)
        self._looks = StoreLooks(self.views, runtime.lock, runtime.timers, runtime.wake_resting, runtime.is_closed)
        self._restoring = Restoring(self.stored_blob)
        #: Whether this process has ever borrowed an object.
        self.borrows = False

    def value(self, entry: ObjectEntry, copy: bool = False) -> Any:
        """The value of a complete entry, or raise its failure. Without the lock."""
        status = entry.status
        if status == READY:
            blob = entry.value
        elif status == FAILED:
            self._runtime.failures.retrieved(entry)
            raise error_of(entry)
        else:
            try:
                blob = self.stored_blob(entry.id)
            except ObjectLostError as error:
                raise why_lost(entry, error, self._runtime) from None
        try:
            if blob and blob[0] == PICKLE:  # most are: a pickle with nothing beside it
                return load_pickle(blob)
            return deserialize_aligned(blob) if not copy else deserialize_copy(blob)
        except BaseException as error:
            raise_unreadable_value(error, entry)

    def stored_blob(self, object_id: bytes) -> memoryview:
        """An object in the node's store. Without the lock.

        Raises:
            ObjectLostError: it is not there (any more).
        """
        blob = self._view(object_id)
        if blob is None:
            raise ObjectLostError(object_id, "it is not in the node's store any more")
        return blob

    def on_disk(self, object_id: bytes) -> OnDisk | None:
        """An object of the node's store, for those who must not wait for its disk; None: ``stored_blob`` will not.

        Without the lock.
        """
        try:
            if not self.views.is_spilled(object_id):
                return None
        except RayConnectionError:  # it may take a while to learn what has happened to the store
            pass
        except RayError:  # those who read it are told the same
            return None
        return OnDisk(object_id, self._restoring)

    def _view(self, object_id: bytes) -> memoryview | None:
        try:
            return self.views.view(object_id)
        except RayConnectionError as error:
            raise self._store_lost(error) from error

    def blob_of(self, object_id: bytes, owner: str) -> Any:
        """The value's bytes of an object that another process owns and keeps for now; waits for it. Without the lock.

        Raises:
            OwnerDiedError: its owner has died.
        """
        runtime = self._runtime
        blob = self._view(object_id) if self.shared else None
        if blob is not None:
            return blob
        ref = runtime.rebuild_ref(object_id, owner)
        entry = ref._entry
        if entry.status == PENDING:
            runtime.wait_for(entry)
        if entry.status == FAILED:
            raise open_envelope(entry.value)
        return self.stored_blob(object_id) if entry.status == STORED else entry.value

    def store_value(self, entry: ObjectEntry, serialized: Serialized) -> None:
        """Write a large value of this process into the store. Without the lock.

        Raises:
            BlockingCallError: the store would have to make room first, and this thread runs an event loop.
        """
        store = self._runtime.store
        patient = not self._runtime.guarded or self._runtime.may_wait()
        try:
            store.put(entry.id, serialized.pieces(), serialized.nbytes, patient=patient)
        except BaseException as error:
            self._runtime.table.dropped.append(entry)  # nobody may ever hold it
            store.delete(entry.id)  # a signal handler may have raised when it was complete
            if isinstance(error, RayConnectionError):
                raise self._store_lost(error) from error
            if isinstance(error, BlockingIOError):
                raise BlockingCallError("ray.put") from error
            raise
        if self.shared:
            entry.table.fill(entry, STORED, serialized.nbytes)
        else:
            entry.table.fill(entry, READY, store.get(entry.id))

    def _store_lost(self, error: RayConnectionError) -> RayConnectionError:
        """What to raise when the store does not answer: most likely the node is about to be reported dead."""
        runtime = self._runtime
        end = monotonic() + runtime.store_death_s
        while runtime.node.dead is None and not runtime.closed and monotonic() < end:
            runtime.polling.wait(Waiter(1), 0.05)
        if runtime.node.dead is not None:
            return NodeDiedError(runtime.node_id, runtime.node.dead)
        runtime.cut_off(error)
        return error

    def store_result(self, object_id: bytes, serialized: Serialized, *, patient: bool = True) -> None:
        """Write a large value that another process will own into the shared store, as ``put``. Without the lock."""
        store = self._runtime.store
        try:
            try:
                store.put(object_id, serialized.pieces(), serialized.nbytes, patient=patient)
            except ObjectExistsError:  # left by an earlier attempt, whose process died before it could say so
                store.delete(object_id)
                store.put(object_id, serialized.pieces(), serialized.nbytes, patient=patient)
        except RayConnectionError as error:
            raise self._store_lost(error) from error

    def stored(self, entry: ObjectEntry, nbytes: int) -> None:
        """A worker has put the value into the node's store."""
        entry.table.complete(entry, STORED, nbytes)
        if entry.freed:
            self._runtime.store.delete(entry.id)

    def discard(self, ids: Iterable[bytes]) -> None:
        """Results that may be in the store though nobody will ever be told."""
        if self.shared:
            for id in ids:
                self._runtime.store.delete(id)

    def free(self, entries: Iterable[ObjectEntry]) -> None:
        """Let go of entries that nobody holds."""
        runtime = self._runtime
        calls = runtime.calls
        for entry in entries:
            if calls.by_life:
                calls.handle_gone(entry)
            status, value, task = entry.status, entry.value, entry.task  # its task may end in the middle of this
            if status == STORED:
                self.views.drop(entry.id)
            if entry.owner is not None:
                if entry.handed:
                    self.send_to_owner(entry, wire.Credit(entry.id, runtime.address, -runtime.table.take_handed(entry)))
            elif status == STORED:
                runtime.store.delete(entry.id)
            elif type(value) is ActorLife:
                runtime.actor_unheld(value.actor_id)
            elif type(task) is TaskRecord and task.num_returns == STREAMING:
                runtime.unwanted(entry)
            elif status == READY and len(value) >= codec.OUT_OF_BAND_BYTES:
                self._free_large(entry)
            entry.table.drop_value(entry)

    def _free_large(self, entry: ObjectEntry) -> None:
        """The value may be in this process's store, and workers may keep copies."""
        entry.table.drop_value(entry)
        store = self._runtime.store
        if not self.shared and store.contains(entry.id):
            store.release(entry.id)
            store.delete(entry.id)
        for peer in list(self._runtime.peers.by_address.values()):
            if entry.id in peer.kept:
                peer.drop_kept(entry.id)
                peer.send_forgets()

    def want(self, entry: ObjectEntry) -> None:
        """Have the owner send the value of a borrowed entry as soon as there is one."""
        if entry.owner is not None and entry.status == PENDING and entry.task is None:
            check(SENDING)
            entry.task = _WANTED
            self.send_to_owner(entry, wire.Fetch(entry.id))
            if self.shared and entry.status == PENDING:
                self._looks.expect(entry)

    def send_to_owner(self, entry: ObjectEntry, message: Any) -> None:
        """Send to the owner; if it is dead the entry fails."""
        try:
            peer = self._runtime.peers.reach(entry.owner or "")
            self._runtime.flush(peer)  # a result that brings the object home must not come after the credit's return
            peer.send(message)
        except OwnFaultError as error:
            self._runtime.unreached.owner(entry, message, error)
        except ConnectionError:
            self.fail(entry, OwnerDiedError(entry.id))

    def lost(self, entry: ObjectEntry, reason: str) -> None:
        """Nobody will ever make this object."""
        self.fail(entry, ObjectLostError(entry.id, reason))

    def fail(self, entry: ObjectEntry, error: RayError) -> None:
        """End an object that is not there yet with an error."""
        if entry.status == PENDING:
            entry.table.complete(entry, FAILED, self._runtime.failures.envelope(error, "", entry.id[:16], 0))

    def on_fetch(self, peer: Peer, message: wire.Fetch, frames: Any) -> None:
        """A borrower wants a value of ours."""
        entry = self._runtime.table.entries.get(message.id)
        if entry is None:
            error = ObjectLostError(message.id, "its owner has freed it")
            envelope = self._runtime.failures.envelope(error, "", message.id[:16], 0)
            peer.send(wire.Fetched(message.id, FAILED, envelope))
        elif not entry.call_when_done(lambda entry: self._send_value(peer, entry)):
            self._send_value(peer, entry)

    def _send_value(self, peer: Peer, entry: ObjectEntry) -> None:
        if peer.lost or entry.freed:  # a call that interrupts the caller may send it, and the borrower let go of it
            return
        value = entry.value
        out: list[Any] = [b""]
        if entry.status == FAILED:
            self._runtime.failures.retrieved(entry)
        inner = self.hand_over(entry.contained, peer.address)
        if entry.status == STORED:
            peer.send(wire.Fetched(entry.id, STORED, None, inner, value))
        else:
            data = b"" if type(value) is ActorLife else codec.attach(value, out)
            peer.send(wire.Fetched(entry.id, entry.status, data, inner), out)

    def on_fetched(self, peer: Peer, message: wire.Fetched, frames: Any) -> None:
        """An owner sent a value."""
        entry = self._runtime.table.entries.get(message.id)
        if message.status not in (READY, STORED, FAILED):
            raise RemoteProtocolError(f"an object of status {message.status}")
        if entry is None or entry.status != PENDING or entry.owner is None:
            self.drop_refs(message.refs)  # nobody waits any more; only the refs inside are taken, and returned
            return
        self.receive_refs(entry, message.refs, credits=1)
        value = message.nbytes if message.status == STORED else codec.detach(message.data or b"", frames)
        if entry.status == PENDING:
            entry.table.complete(entry, message.status, value)

    def hand_over(self, entries: Iterable[ObjectEntry], receiver: str) -> list[wire.Ref]:
        """Register a credit for ``receiver`` on each entry, and describe them for the wire."""
        refs, address = [], self._runtime.address
        for entry in entries:
            refs.append(describe(entry, address, 1 if entry.owner is None and receiver == address else 0))
            self._grant(entry, receiver)
        return refs

    def _grant(self, entry: ObjectEntry, receiver: str, credits: int = 1) -> None:
        if entry.owner is None:
            self._runtime.table.grant(entry, receiver, credits)
            self._watch(receiver)
        elif entry.owner != receiver:
            self.send_to_owner(entry, wire.Credit(entry.id, receiver, credits))

    def _watch(self, borrower: str) -> None:
        """Keep a connection to a borrower: its loss tells that the credits are void."""
        try:
            self._runtime.peers.reach(borrower)
        except OwnFaultError:
            return  # its end may go unnoticed, and what it holds be kept
        except ConnectionError:
            self._runtime.table.borrower_lost(borrower)

    def receive_refs(self, entry: ObjectEntry, refs: Collection[wire.Ref], credits: int) -> None:
        """A value came with refs inside: hold them for as long as the value's entry lives."""
        inner = [self._receive(ref, credits) for ref in refs]
        if not inner:
            return
        table, address = self._runtime.table, self._runtime.address
        table.set_contained(entry, inner)
        table.unpin(inner)
        for ref in refs:
            if ref.credits and ref.owner == address:
                table.arrived(ref.id, address, ref.credits)

    def drop_refs(self, refs: Iterable[wire.Ref]) -> None:
        """A value that nobody wants came with refs inside, of which the sender counts one credit each for us."""
        self.receive_refs(self._runtime.table.unwanted(), list(refs), credits=1)

    def _receive(self, ref: wire.Ref, credits: int) -> ObjectEntry:
        """The entry of a ref that arrived here, pinned, with what came along of its object."""
        entry = self.borrow(ref.id, ref.owner, credits)
        if ref.status:
            take_note(entry, ref, shared=self.shared)
        return entry

    def borrow(self, id: bytes, owner: str, credits: int = 0) -> ObjectEntry:
        """The entry of a ref that arrived here, pinned."""
        if len(id) != OBJECT_ID_BYTES:
            raise RemoteProtocolError(f"an object with an id of {len(id)} bytes")
        table = self._runtime.table
        if owner != self._runtime.address:
            self.borrows = True
            return table.borrow(id, owner, credits)
        entry = table.hold(id)
        if entry is None:
            entry = table.own(id)
            table.pin((entry,))
            self.lost(entry, "its owner has freed it")
        return entry

    def hand_over_arguments(self, record: TaskRecord, receiver: str, handed: set[tuple[bytes, int]]) -> None:
        """The refs in arguments of ours are covered by our pins; those that we only borrow must survive our death.

        ``handed``: (task id, place) of those that are handed over. What is interrupted and done anew leaves them out.
        """
        if self.borrows:
            for place, entry in enumerate(handed_over(record, receiver)):
                if (key := (record.id, place)) not in handed:
                    self._grant(entry, receiver)
                    if key in handed:  # so did a call that has interrupted this one
                        self._grant(entry, receiver, -1)
                    else:
                        handed.add(key)

    def receive_arguments(self, task: wire.Task) -> list[ObjectEntry]:
        """Hold, for the time of a call, the argument refs that were handed over with it."""
        refs = (*task.refs, *(ref for dependency in task.deps for ref in dependency.refs))
        return [self._receive(ref, ref.credits) for ref in refs if ref.credits or ref.status]

    def grant_kept(self, record: TaskRecord, kept: Iterable[bytes], worker: str) -> None:
        """A worker keeps refs it was given as arguments: their owners must know before our pins go."""
        held = {entry.id: entry for entry in record.refs}
        for _, dependency in record.deps:
            held.update((entry.id, entry) for entry in dependency.contained)
        for id in kept:
            entry = held.get(id)
            if entry is not None:
                self._grant(entry, worker)

    def on_credit(self, peer: Peer, message: wire.Credit, frames: Any) -> None:
        """Somebody hands over, or returns, a ref of ours."""
        table = self._runtime.table
        if message.credits < 0:
            table.take_back(message.id, message.borrower, -message.credits)
            return
        entry = table.entries.get(message.id)
        if entry is not None:
            table.grant(entry, message.borrower, message.credits)
            self._watch(message.borrower)

    def peer_lost(self, address: str) -> None:
        """A process is gone: it holds nothing any more, and what it owned is lost."""
        self._runtime.table.borrower_lost(address)
        if self.borrows:
            # An owner that lives has lost the connection as well, and counts no credits of this process any more.
            for entry in self._runtime.table.owner_lost(address):
                self.fail(entry, OwnerDiedError(entry.id))
