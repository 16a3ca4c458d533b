"""The replies of a worker: collected while they are small and soon made, and sent together.

What is not sent is lost if the process dies, so nothing waits here while a call runs that is not known to be short. Nor
is the result of a call that was not short lost by the death of its process in a later one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.clock import monotonic
from ray.messages import codec, wire
from ray.runtime.owner.records import return_ids
from ray.runtime.worker.life import Life
from ray.runtime.worker.process_end import SETTLE_S
from ray.runtime.worker.waiting import WaitingWorker

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from ray.runtime.process.peers import Peer
    from ray.runtime.worker.call import TaskCall
    from ray.runtime.worker.outcome import Outcome

#: Results of short tasks are collected up to this many, or until the queue is empty …
MAX_OUTBOX = 64
#: … or until one has taken this long, or waits this long.
FLUSH_US = 100
FLUSH_S = 0.005


class Replying(WaitingWorker):
    """The replying half of a worker."""

    life: Life

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        #: Peers with results that are not sent.
        self._unsent: dict[Peer, float] = {}
        #: Functions and methods that were short the last time.
        self._brief: set[bytes] = set()
        #: A call that was not has ended, and its reply may not have left the process.
        self._long_ended = False
        #: A loop is about to send the results of its calls.
        self._turn_ends = False

    def peer_lost(self, peer: Peer) -> None:
        super().peer_lost(peer)
        self.desk.peer_lost(peer)

    def _flush_after_turn(self, loop: AbstractEventLoop) -> None:
        """Other calls may end in the same turn of the loop: their replies go together."""
        if not self._turn_ends:
            self._turn_ends = True
            loop.call_soon(self._end_of_turn)

    def _end_of_turn(self) -> None:
        self._turn_ends = False
        with self.lock:
            self.flush_all()

    def _reply(self, call: TaskCall, outcome: Outcome, duration_us: int) -> None:
        """Queue the reply of a call that has ended, and send the queue when that is worth it; under the lock."""
        if self.peers.cut_off and not (self.life.exiting or self.actor.id):  # the next task is to find a sound process
            self.life.exiting = "it could not reach the other processes of its session"
        self.queue_reply(call, outcome, duration_us)
        peer = call.peer
        if duration_us > FLUSH_US:
            self._brief.discard(call.task.function)
            self._long_ended = True
        else:
            self._brief.add(call.task.function)
        if call.coroutine is not None and self.desk.running and not self.life.exiting:
            self._flush_after_turn(call.coroutine[0])
        elif (
            duration_us > FLUSH_US
            or len(peer.outbox) >= MAX_OUTBOX
            or len(peer.outbox_frames) > 1
            or self.life.exiting
            or self.desk.executor.idle()
        ):
            self.flush(peer)

    def queue_reply(self, call: TaskCall, outcome: Outcome, duration_us: int) -> None:
        """Queue a reply; called under the lock."""
        peer, task = call.peer, call.task
        if peer.lost:
            self._drop(call, outcome)
            return
        if call.held and not call.abandoned:
            self.desk.let_go(call)
        values: list[Any] = outcome.blobs
        for index, blob in enumerate(values):
            if blob is not None and (type(blob) is not bytes or len(blob) >= codec.OUT_OF_BAND_BYTES):
                values[index] = codec.attach(blob, peer.outbox_frames)
        refs = []
        if outcome.refs is not None:
            refs = [self.borrowing.hand_over([ref._entry for ref in inner], peer.address) for inner in outcome.refs]
            outcome.refs = None
        kept = self._kept(task) if task.refs or task.deps else []
        done = wire.Done(task.id, outcome.ok, values, duration_us, kept, refs, outcome.sizes, outcome.retry)
        if not peer.outbox:
            self._unsent[peer] = monotonic()
        peer.outbox.append(done)

    def _drop(self, call: TaskCall, outcome: Outcome) -> None:
        """Nobody takes the result of a call; called under the lock."""
        self.desk.let_go(call)
        if call.abandoned and call.peer.lost:
            return  # it may run anew, and the stored result be that of the other attempt
        self.values.discard(id for id in return_ids(call.task.id, call.task.num_returns) if None in outcome.blobs)

    def _kept(self, task: wire.Task) -> list[bytes]:
        """Argument refs that this process still holds; each becomes a credit that the submitter registers."""
        kept = []
        entries = self.table.entries
        for ref in [*task.refs, *(ref for dependency in task.deps for ref in dependency.refs)]:
            entry = entries.get(ref.id)
            if entry is not None and entry.owner is not None and not ref.credits and (entry.local or entry.pins):
                self.table.hand_on(entry)
                kept.append(ref.id)
        return kept

    def flush(self, peer: Peer) -> None:
        """Send the queued replies of one owner; called under the lock."""
        if not peer.outbox:
            return
        done, peer.outbox = peer.outbox, []
        frames, peer.outbox_frames = peer.outbox_frames, [b""]
        self._unsent.pop(peer, None)
        exiting = bool(self.life.exiting)
        returned = self.desk.take_back(peer) if exiting else []
        ends = exiting and (peer is self.desk.lessee or bool(self.actor.id))
        peer.send(wire.Replies(done, ends, returned, self.actor.announced), frames)

    def flush_all(self) -> None:
        """Send every queued reply; called under the lock."""
        for peer in list(self._unsent):
            self.flush(peer)

    def _secure(self) -> None:
        """Have every reply outlive the process, as far as its peers take it."""
        if self._unsent:
            with self.lock:
                self.flush_all()
        self._long_ended = False
        self.transport.settle(SETTLE_S)

    def after_events(self) -> None:
        super().after_events()
        # Replies of short tasks must not wait for a long one that follows them.
        if self._unsent:
            limit = monotonic() - FLUSH_S
            for peer, since in list(self._unsent.items()):
                if since <= limit:
                    self.flush(peer)

    def patience_s(self) -> float:
        return 0.01 if self.desk.queued or self._unsent else super().patience_s()
