"""Values of this process's objects, sent to the processes that ask for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.exceptions import ObjectLostError, RayError
from ray.messages import codec, wire
from ray.protocol.references import AWAY, FAILED, READY, STORED, ObjectEntry

if TYPE_CHECKING:
    from ray.protocol.references import ReferenceTable
    from ray.runtime.owner.borrowing import Borrowing, Reports
    from ray.runtime.owner.values import Values
    from ray.runtime.process.peers import Peer
    from ray.serialization.blob import Blob


class Lending:
    """Answers ``Fetch``. Under the runtime's lock, unless a method says otherwise."""

    def __init__(
        self, table: ReferenceTable, values: Values, borrowing: Borrowing, reports: Reports, lock: Any
    ) -> None:
        """Make it.

        Args:
            table: of the process.
            values: in stores.
            borrowing: of the refs that go along with values.
            reports: makes envelopes of errors.
            lock: the runtime's.
        """
        self._table = table
        self._values = values
        self._borrowing = borrowing
        self._reports = reports
        self._lock = lock

    def on_fetch(self, peer: Peer, message: wire.Fetch, frames: Any) -> None:
        """A borrower wants a value of ours."""
        entry = self._table.entries.get(message.id)
        if entry is None:
            self._send_failure(peer, message.id, ObjectLostError(message.id, "its owner has freed it"))
        elif not entry.call_when_done(lambda entry: self._send(peer, entry)):
            self._send(peer, entry)

    def _send(self, peer: Peer, entry: ObjectEntry) -> None:
        if peer.lost or entry.freed:  # a call that interrupts the caller may send it, and the borrower let go of it
            return
        value = entry.value
        if entry.status >= STORED:
            at = self._values.at(entry, peer)
            if at is not None:
                inner = self._borrowing.hand_over(entry.contained, peer)
                peer.send(wire.Fetched(entry.id, AWAY, None, inner, entry.nbytes, at))
                return
            if not peer.near:
                self._send_stored(peer, entry)
                return
            inner = self._borrowing.hand_over(entry.contained, peer)
            peer.send(wire.Fetched(entry.id, STORED, None, inner, entry.nbytes))
            return
        if entry.status == FAILED:
            self._borrowing.retrieved(entry)
        self._send_data(peer, entry, b"" if value is None else value)  # an actor's life has none

    def _send_data(self, peer: Peer, entry: ObjectEntry, value: Blob) -> None:
        out: list[Any] = [b""]
        inner = self._borrowing.hand_over(entry.contained, peer)
        status = READY if entry.status == STORED else entry.status
        peer.send(wire.Fetched(entry.id, status, codec.attach(value, out), inner), out)

    def _send_failure(self, peer: Peer, id: bytes, error: RayError) -> None:
        peer.send(wire.Fetched(id, FAILED, self._reports.envelope(error, "", id[:16], 0)))

    def _send_stored(self, peer: Peer, entry: ObjectEntry) -> None:
        """To a process of another node, which has another store: the memory itself, of which nothing is copied."""
        blob = self._values.at_once(entry.id)
        if blob is not None:
            self._send_data(peer, entry, blob)
            return
        self._table.pin((entry,))
        self._values.read_later(_OnItsWay(entry.id, lambda blob, error: self._was_read(peer, entry, blob, error)))

    def _was_read(self, peer: Peer, entry: ObjectEntry, blob: memoryview | None, error: RayError | None) -> None:
        """An object has come back from the disk, or cannot be read. Without the lock, on a thread."""
        with self._lock:
            self._table.unpin((entry,))
            if peer.lost or self._table.closed:
                return
            if blob is not None:
                self._send_data(peer, entry, blob)
            elif error is not None:
                self._send_failure(peer, entry.id, error)


class _OnItsWay:
    """A stored object that is read for somebody else."""

    __slots__ = ("_id", "_then")

    def __init__(self, id: bytes, then: Callable[[memoryview | None, RayError | None], None]) -> None:
        self._id = id
        self._then = then

    def read(self, read: Callable[[bytes], memoryview]) -> None:
        """See ``Wanted``."""
        try:
            blob = read(self._id)
        except RayError as error:
            self._then(None, error)
        except BaseException as error:
            self._then(None, ObjectLostError(self._id, f"it could not be read: {error!r}"))
        else:
            self._then(blob, None)
