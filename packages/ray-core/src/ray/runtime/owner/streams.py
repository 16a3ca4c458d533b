"""The owner's side of results that come one by one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray.abc.transport import Frame
from ray.exceptions import RemoteProtocolError
from ray.ids import OBJECT_ID_BYTES, object_id
from ray.messages import codec, wire
from ray.protocol.call_records import Callee
from ray.protocol.references import PENDING, READY, ObjectEntry
from ray.protocol.task_records import Lease
from ray.runtime.owner.actor_client import ActorClient
from ray.runtime.owner.away import place_of
from ray.runtime.owner.records import Link, TaskRecord
from ray.runtime.refs.generator import ObjectRefGenerator, Stream
from ray.runtime.refs.ref import ObjectRef

if TYPE_CHECKING:
    from ray.protocol.references import ReferenceTable
    from ray.runtime.owner.borrowing import Borrowing
    from ray.runtime.owner.moving_in import MovingIn
    from ray.runtime.owner.values import Values
    from ray.runtime.process.peers import Peer


class Streams:
    """The streams of an owner's tasks and calls."""

    def __init__(
        self,
        table: ReferenceTable,
        lock: Any,
        values: Values,
        borrowing: Borrowing,
        moving: MovingIn,
        links: Mapping[bytes, Link],
        clients: Mapping[bytes, ActorClient],
    ) -> None:
        """Make one.

        Args:
            table: of the process.
            lock: the runtime's.
            values: in stores.
            borrowing: of refs that come inside values.
            moving: of large values from other nodes into the store.
            links: {lease id: the leased worker}.
            clients: {actor id: the way to it}.
        """
        self._table = table
        self._lock = lock
        self._values = values
        self._borrowing = borrowing
        self._moving = moving
        self._links = links
        self._clients = clients

    def register(self, record: TaskRecord) -> ObjectRefGenerator[Any]:
        """A generator for the results of a new task; called under the lock."""
        import weakref

        entry = self._table.own(object_id(record.id))
        entry.task = record
        record.entries = (entry,)
        stream = Stream([ObjectRef(entry)], functools.partial(self._taken, record))
        record.stream = weakref.ref(stream)
        return ObjectRefGenerator(stream)

    def on_yielded(
        self, peer: Peer, message: wire.Yielded, frames: Sequence[Frame], claim: Callable[[Sequence[Frame]], bool]
    ) -> None:
        """A task has yielded an object; called under the lock.

        A call that interrupts this handles the same message, and those behind it: objects come in order. ``claim`` says
        whether nobody has, and that nobody is to from now on.
        """
        sink = peer.sink
        record = sink.inflight.get(message.task) if type(sink) is Link or type(sink) is ActorClient else None
        stream = record.stream() if record is not None and not record.done else None
        if record is None or stream is None or not stream.refs or message.index > record.streamed:
            if claim(frames):
                self._drop_yielded(peer, message)  # the consumer has left, or the lease of the worker has ended
            return
        data = None if message.data is None else codec.detach(message.data, frames)
        following = ObjectEntry(object_id(record.id, message.index + 1), self._table)
        ref: ObjectRef[Any] = ObjectRef(following)
        entries = (following,)
        if message.index < record.streamed:
            return  # a call that has interrupted this one, or was interrupted by it, takes it
        if record.done:
            if claim(frames):
                self._drop_yielded(peer, message)
            return
        # From here on no call comes between, until it is in the stream, and before any thread is woken.
        entry = record.entries[0]
        record.streamed = message.index + 1
        record.entries = entries
        following.task = record
        self._table.entries[following.id] = following
        stream.full = message.full
        stream.refs.append(ref)
        self._borrowing.receive_refs(entry, message.refs, credits=1, giver=peer.process)
        if message.away is not None:
            self._values.came_away(entry, message.away)
        elif data is None:
            self._values.stored(entry, message.nbytes)
        elif not peer.near and self._moving.takes(data):
            self._moving.begin(entry, data, record.name)
        else:
            self._table.complete(entry, READY, data)
            if record.attempt:  # as ``finish`` does
                self._values.discard([entry.id])
        entry.task = record.name

    def _drop_yielded(self, peer: Peer, message: wire.Yielded) -> None:
        id = object_id(message.task, message.index)
        if len(id) != OBJECT_ID_BYTES:
            raise RemoteProtocolError(f"a task with an id of {len(message.task)} bytes")
        self._borrowing.receive_refs(self._table.unwanted(), message.refs, credits=1)
        kept = self._table.entries.get(id)
        if message.away is not None:
            place = self._table.places.get(id)
            if place is None or place != place_of(id, message.away):
                self._values.away.free_at(id, message.away)
        elif (
            message.data is None
            and (kept is None or kept.status == PENDING)
            and not self._runs_elsewhere(peer, message)
        ):
            self._values.discard([id])

    def _runs_elsewhere(self, peer: Peer, message: wire.Yielded) -> bool:
        """Whether the worker is heard late, and another attempt has come, which stores what has the same ids."""
        places: list[Link | ActorClient] = [*self._links.values(), *self._clients.values()]
        return any(message.task in place.inflight and place is not peer.sink for place in places)

    def _taken(self, record: TaskRecord, stream: Stream) -> None:
        """The consumer has taken objects that the worker waits to hear of."""
        with self._lock:
            place = None if record.done else record.place
            way: Link | ActorClient | None = None
            if isinstance(place, Lease):
                way = self._links.get(place.id)
            elif isinstance(place, Callee):
                way = self._clients.get(place.actor_id)
            peer = None if way is None else way.peer
            if peer is not None:
                stream.told = stream.taken
                peer.send(wire.Taken(record.id, stream.taken))
