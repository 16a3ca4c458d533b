"""The replies of a worker: collected while they are small and soon made, and sent together.

What is not sent is lost if the process dies, so nothing waits here while a call runs that is not known to be short. Nor
is the result of a call that was not short lost by the death of its process in a later one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.clock import monotonic
from ray.ids import stored_id
from ray.messages import codec, wire
from ray.runtime.owner.records import return_ids

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from ray.abc.transport import Transport
    from ray.protocol.references import ReferenceTable
    from ray.runtime.owner.borrowing import Borrowing
    from ray.runtime.owner.values import Values
    from ray.runtime.process.peers import Peer, PeerTable
    from ray.runtime.worker.actor_host import ActorHost
    from ray.runtime.worker.call import TaskCall
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.life import Life
    from ray.runtime.worker.outcome import Outcome

#: Results of short tasks are collected up to this many, or until the queue is empty …
MAX_OUTBOX = 64
#: … or until one has taken this long, or waits this long.
FLUSH_US = 100
FLUSH_S = 0.005
#: What was sent is given this long to leave the process before a call begins that may take it along.
SETTLE_S = 0.01


class Replies:
    """What the calls of a worker came to, on its way to their callers."""

    __slots__ = (
        "_actor", "_borrowing", "_desk", "_life", "_peers", "_table", "_transport", "_turn_ends", "_values",
        "brief", "long_ended", "unsent",
    )  # fmt: skip

    def __init__(
        self,
        desk: Desk,
        actor: ActorHost,
        life: Life,
        table: ReferenceTable,
        borrowing: Borrowing,
        values: Values,
        transport: Transport,
        peers: PeerTable,
    ) -> None:
        self._desk = desk
        self._actor = actor
        self._life = life
        self._table = table
        self._borrowing = borrowing
        self._values = values
        self._transport = transport
        self._peers = peers
        #: {peer with results that are not sent: since when}
        self.unsent: dict[Peer, float] = {}
        #: Functions and methods that were short the last time.
        self.brief: set[bytes] = set()
        #: A call that was not has ended, and its reply may not have left the process.
        self.long_ended = False
        #: A loop is about to send the results of its calls.
        self._turn_ends = False

    def _flush_after_turn(self, loop: AbstractEventLoop) -> None:
        """Other calls may end in the same turn of the loop: their replies go together."""
        if not self._turn_ends:
            self._turn_ends = True
            loop.call_soon(self._end_of_turn)

    def _end_of_turn(self) -> None:
        self._turn_ends = False
        with self._desk.lock:
            self.flush_all()

    def reply(self, call: TaskCall, outcome: Outcome, duration_us: int) -> None:
        """Queue the reply of a call that has ended, and send the queue when that is worth it; under the lock."""
        life, desk = self._life, self._desk
        if self._peers.cut_off and not (life.exiting or self._actor.id):  # the next task is to find a sound process
            life.exiting = "it could not reach the other processes of its session"
        self.queue(call, outcome, duration_us)
        peer = call.peer
        if duration_us > FLUSH_US:
            self.brief.discard(call.task.function)
            self.long_ended = True
        else:
            self.brief.add(call.task.function)
        if call.coroutine is not None and desk.running and not life.exiting:
            self._flush_after_turn(call.coroutine[0])
        elif (
            duration_us > FLUSH_US
            or len(peer.outbox) >= MAX_OUTBOX
            or len(peer.outbox_frames) > 1
            or life.exiting
            or desk.executor.idle()
        ):
            self.flush(peer)

    def queue(self, call: TaskCall, outcome: Outcome, duration_us: int) -> None:
        """Queue a reply; called under the lock."""
        peer, task = call.peer, call.task
        if peer.lost:
            self.drop(call, outcome)
            return
        if call.held and not call.abandoned:
            self._desk.let_go(call)
        values: list[Any] = outcome.blobs
        for index, blob in enumerate(values):
            if blob is not None and (type(blob) is not bytes or len(blob) >= codec.OUT_OF_BAND_BYTES):
                values[index] = codec.attach(blob, peer.outbox_frames)
        refs = []
        if outcome.refs is not None:
            refs = [self._borrowing.hand_over([ref._entry for ref in inner], peer) for inner in outcome.refs]
            outcome.refs = None
        kept = self._kept(task, peer.process) if task.refs or task.deps else []
        done = wire.Done(
            task.id, outcome.ok, values, duration_us, kept, refs, outcome.sizes, outcome.retry, outcome.away
        )
        if not peer.outbox:
            self.unsent[peer] = monotonic()
        peer.outbox.append(done)

    def drop(self, call: TaskCall, outcome: Outcome) -> None:
        """Nobody takes the result of a call; called under the lock."""
        self._desk.let_go(call)
        if call.abandoned and call.peer.lost:
            return  # it may run anew, and the stored result be that of the other attempt
        if None in outcome.blobs:
            ids = return_ids(call.task.id, call.task.num_returns)
            away = outcome.away or [None] * len(ids)
            self._values.discard(stored_id(id, at.edition if at else 0) for id, at in zip(ids, away, strict=True))

    def _kept(self, task: wire.Task, submitter: bytes) -> list[bytes]:
        """Argument refs that this process still holds; each becomes a credit that the submitter registers."""
        kept = []
        entries = self._table.entries
        for ref in [*task.refs, *(ref for dependency in task.deps for ref in dependency.refs)]:
            entry = entries.get(ref.id)
            if entry is not None and entry.owner is not None and not ref.credits and (entry.local or entry.pins):
                self._table.hand_on(entry)
                self._borrowing.keeps(entry, submitter, 1)
                kept.append(ref.id)
        return kept

    def flush(self, peer: Peer) -> None:
        """Send the queued replies of one owner; called under the lock."""
        if not peer.outbox:
            return
        done, peer.outbox = peer.outbox, []
        frames, peer.outbox_frames = peer.outbox_frames, [b""]
        self.unsent.pop(peer, None)
        exiting = bool(self._life.exiting)
        returned = self._desk.take_back(peer) if exiting else []
        ends = exiting and (peer is self._desk.lessee or bool(self._actor.id))
        peer.send(wire.Replies(done, ends, returned, self._actor.announced), frames)

    def flush_all(self) -> None:
        """Send every queued reply; called under the lock."""
        for peer in list(self.unsent):
            self.flush(peer)

    def secure(self) -> None:
        """Have every reply outlive the process, as far as its peers take it."""
        if self.unsent:
            with self._desk.lock:
                self.flush_all()
        self.long_ended = False
        self._transport.settle(SETTLE_S)

    def flush_old(self) -> None:
        """Replies of short tasks must not wait for a long one that follows them; called under the lock."""
        limit = monotonic() - FLUSH_S
        for peer, since in list(self.unsent.items()):
            if since <= limit:
                self.flush(peer)
