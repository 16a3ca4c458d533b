"""What tasks and calls come to: their objects are there, or fail, and their arguments are let go of.

Methods are called under the runtime's lock.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ray.abc.transport import Frame
from ray.exceptions import RayError
from ray.ids import edition_of, node_of, object_id, stored_id
from ray.messages import codec, node, wire
from ray.protocol.references import AWAY, FAILED, PENDING, READY, ObjectEntry, ReferenceTable
from ray.runtime.owner.records import TaskRecord, return_ids

if TYPE_CHECKING:
    from ray.protocol.call_records import Callee
    from ray.runtime.owner.actor_client import ActorClient
    from ray.runtime.owner.borrowing import Borrowing
    from ray.runtime.owner.events import TaskEventLog
    from ray.runtime.owner.moving_in import MovingIn
    from ray.runtime.owner.reports import Reports
    from ray.runtime.owner.values import Values
    from ray.runtime.process.peers import Peer
    from ray.serialization.blob import Blob


class Flight(Protocol):
    """What a worker or an actor was sent and has not answered."""

    def ended(self, id: bytes) -> TaskRecord | None:
        """Take one away."""

    def back(self, record: TaskRecord) -> None:
        """Put it back."""


class Outcomes:
    """The ends of an owner's tasks and calls."""

    def __init__(
        self,
        table: ReferenceTable,
        values: Values,
        borrowing: Borrowing,
        reports: Reports,
        events: TaskEventLog,
        moving: MovingIn,
        rests: list[Callable[[], None]],
    ) -> None:
        """Make one.

        Args:
            table: of the process.
            values: in stores; results may be left there.
            borrowing: of refs that come along with results.
            reports: makes envelopes of errors, and tells of them.
            events: notes the ends, if a sink wants that.
            moving: of large results from other nodes into the store.
            rests: what calls that are interrupted have still to do, for the call that interrupts them.
        """
        self._table = table
        self._values = values
        self._borrowing = borrowing
        self._reports = reports
        self._events = events
        self._moving = moving
        #: What goes on with what was interrupted.
        self.rests = rests

    def take(
        self,
        flight: Flight,
        message: wire.Replies,
        frames: Sequence[Frame],
        peer: Peer | None,
        retry: Callable[[TaskRecord], None],
    ) -> None:
        """End the tasks that a message tells of; a call that interrupts this goes on with the rest of them."""
        if len(message.done) == 1:
            self._take_each(flight, message.done, frames, peer, retry)
            return
        ends = iter(message.done)
        rest = functools.partial(self._take_each, flight, ends, frames, peer, retry)
        self.rests.append(rest)
        try:
            rest()
        finally:
            self.rests.remove(rest)

    def _take_each(
        self,
        flight: Flight,
        ends: Iterable[wire.Done],
        frames: Sequence[Frame],
        peer: Peer | None,
        retry: Callable[[TaskRecord], None],
    ) -> None:
        finish = self.finish
        record = None
        try:
            for done in ends:
                record = flight.ended(done.id)
                if record is not None and finish(record, done, frames, peer):
                    retry(record)
        except Exception:  # that was no reply: the end of the worker decides what comes of the task
            if record is not None and any(entry.status == PENDING for entry in record.entries):
                record.done = False
                flight.back(record)
            raise

    def finish(self, record: TaskRecord, done: wire.Done, frames: Any, peer: Peer | None) -> bool:
        """A worker reports the end of a task. Returns True if it is to be retried."""
        store, borrowing = self._values, self._borrowing
        if done.kept and peer is not None:
            borrowing.grant_kept(record, done.kept, peer)
        if record.export is not None:
            record.export.time.observe(done.duration_us)
        if record.done:
            self.let_arguments_go(record)
            borrowing.drop_refs(ref for refs in done.refs for ref in refs)
            store.discard(id for id, data in zip(_ids(record), done.values, strict=False) if data is None)
            self._free_away(done)
            return False
        values = done.values
        if not done.ok:
            if done.retry and record.retries and not record.cancelled:
                return True
            envelope = values[0]
            if record.attempt:
                store.discard(_ids(record))
            self.fail(record, codec.detach(envelope or b"", frames))
            return False
        record.done = True
        for index, entry in enumerate(record.entries):
            data: Any = values[index]  # the bytes, or which of the frames they are
            moved = False
            if type(data) is int:
                data = frames[data]
                moved = peer is not None and not peer.near and self._moving.takes(data)
            if done.refs:
                giver = b"" if peer is None else peer.process
                borrowing.receive_refs(entry, done.refs[index], credits=1, giver=giver)
            if moved:
                self._moving.begin(entry, data, record.name)
                continue
            if data is None:
                at = done.away[index] if done.away else None
                if at is not None:
                    store.came_away(entry, at)
                else:
                    store.stored(entry, done.sizes[index])
            else:
                self._table.complete(entry, READY, data)
            entry.task = record.name  # for the error of a value that cannot be unpickled
        if record.attempt:  # an earlier one may have stored results, and died before it could say so
            store.discard(entry.id for entry in record.entries if entry.status in (READY, AWAY))
        if record.pins:
            self.let_arguments_go(record)
        if self._events.wanted:
            self._events.note(record, "finished", done.duration_us)
        return False

    def take_late(self, ends: Iterable[wire.Done], worker: Peer) -> None:
        """What became of these tasks is decided: nobody wants the results."""
        ends = list(ends)
        self._borrowing.take_late(ends, worker)
        for done in ends:
            self._free_away(done)

    def left_behind(self, records: Iterable[TaskRecord], worker: Peer) -> Callable[[], None]:
        """A worker of another node is lost: what to call when nothing more can come of what it was sent.

        It may have stored results, and died before it could say so.
        """
        node, sent = node_of(worker.process), [(record, record.attempt) for record in records]

        def free() -> None:
            places, away = self._table.places, self._values.away
            for record, attempt in sent:
                if not record.done and record.attempt == attempt:
                    continue  # it had not begun, and runs elsewhere
                streams = record.num_returns < 0
                ids = [object_id(record.id, record.streamed)] if streams else return_ids(record.id, record.num_returns)
                for id in ids:
                    key, place = stored_id(id, edition_of(attempt)), places.get(id)
                    if place is None or (place.node, place.key) != (node, key):
                        away.free(node, key)

        return free

    def _free_away(self, done: wire.Done) -> None:
        """Nobody is told of these values."""
        for index, at in enumerate(done.away):
            if at is not None:
                self._values.away.free_at(object_id(done.id, index), at)

    def fail(
        self, record: TaskRecord, envelope: Blob, *, goes_on: bool = False, cause: ObjectEntry | None = None
    ) -> None:
        """End a task with an error.

        Args:
            record: of the task.
            envelope: the error.
            goes_on: it may run, and use its arguments, until its process says it ended.
            cause: the argument whose failure it is.
        """
        record.done = True
        # Before a thread is woken that may get it, and so make printing needless.
        self._reports.note(record, envelope, cause)
        for entry in record.entries:
            self._table.complete(entry, FAILED, envelope)
        if not goes_on:
            self.let_arguments_go(record)
        if self._events.wanted:
            self._events.note(record, "failed", 0)

    def let_arguments_go(self, record: TaskRecord) -> None:
        """Nobody needs them any more for this task."""
        pins, record.pins = record.pins, ()  # in one step: a call that interrupts this may do the same
        if pins:
            self._table.unpin(pins)

    def refused(self, record: TaskRecord, error: RayError) -> None:
        """It was not sent, and is not going to be."""
        self.fail(record, self._reports.envelope(error, record.name, record.id, record.attempt))

    def arguments_for_later(self, record: TaskRecord) -> Callable[[], None]:
        """They are needed no more for this task, and let go of when this is called: others may hold refs in them."""
        pins, record.pins = record.pins, ()
        return lambda: self._table.unpin(pins)

    def crashed(self, record: TaskRecord, cause: node.ExitCause) -> None:
        """Its worker died and there is no retry left."""
        self._values.discard(_ids(record))
        self.fail(record, self._reports.crashed(record, cause))

    def cancelled(self, record: TaskRecord, doubt: str = "") -> None:
        """It was cancelled before it started, or by force; ``doubt``: what is not known about that."""
        self._values.discard(_ids(record))
        self.fail(record, self._reports.cancelled(record, doubt))

    def overdue(self, record: TaskRecord, error: RayError, *, goes_on: bool) -> None:
        """Its time is over; it may run still."""
        self.fail(record, self._reports.envelope(error, record.name, record.id, record.attempt), goes_on=goes_on)

    def unreached(self, records: Iterable[TaskRecord], error: RayError) -> None:
        """This process reaches no worker that would run these, and does not wait any longer for that to change."""
        for record in records:
            if not record.done:
                self._values.discard(_ids(record))
                self.refused(record, error)

    def dies_again(self, record: TaskRecord, cause: node.ExitCause) -> None:
        """Its worker died, and it is run once more: what it has stored and not told of is not to be found."""
        self._values.discard(_pending_ids((record,)))
        self._reports.dies_again(record, cause)

    def actor_ended(
        self,
        record: TaskRecord,
        callee: Callee[TaskRecord],
        fate: str,
        cause: node.ExitCause | None = None,
        error: bytes = b"",
        *,
        restarts: bool = False,
        lives: bool = False,
    ) -> None:
        """Its actor is dead, or was at the time, or only the connection is lost; ``fate``: what became of the call."""
        self._values.discard(_ids(record))
        cause, error = cause or callee.cause, error or callee.error
        self.fail(record, self._reports.actor_dead(record, callee, fate, cause, error, restarts=restarts, lives=lives))

    def actor_restarts(self, callee: Callee[TaskRecord], update: node.ActorUpdate) -> None:
        """The process of an actor died, and another one takes its place, and repeats calls."""
        self._values.discard(_pending_ids([record for record in list(callee.queue) if record.attempt]))
        self._reports.restarts(callee, update)

    def actor_failed(self, callee: Callee[TaskRecord], error: bytes, *, asked: bool) -> None:
        """The ``__init__`` of an actor of this process has raised; ``asked``: calls wait for it, and tell that."""
        self._reports.note_start(callee, error, asked=asked)

    def creation_ended(self, client: ActorClient) -> None:
        """The ``__init__`` of an actor will not run any more: nobody needs its arguments."""
        pins, client.creation = client.creation, ()
        self._table.unpin(pins)


def _ids(record: TaskRecord) -> list[bytes]:
    return [entry.id for entry in record.entries]


def _pending_ids(records: Iterable[TaskRecord]) -> list[bytes]:
    return [entry.id for record in records for entry in record.entries if entry.status == PENDING]
