"""Calls of a process to actors: one client per actor, in submission order, across restarts.

Every method is called under the runtime's lock.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any

from ray.exceptions import UnpicklableError
from ray.messages import node, wire
from ray.protocol import actors
from ray.protocol.references import ObjectEntry
from ray.protocol.tasks import BATCH_TASKS, LAST_WORDS_S
from ray.runtime.owner.actor_client import MANY_CALLS, MAX_AHEAD, ActorClient, Batch, Fallen
from ray.runtime.owner.call_order import put_in_order
from ray.runtime.owner.fates import UNSTARTED, fates_of
from ray.runtime.owner.gathering import Gathering
from ray.runtime.owner.last_calls import ends_next
from ray.runtime.owner.lost_connections import LostConnections
from ray.runtime.owner.records import TaskRecord

if TYPE_CHECKING:
    from ray.runtime.owner.handing_over import HandingOver
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.outcomes import Outcomes
    from ray.runtime.owner.unreached_actors import UnreachedActors
    from ray.runtime.process.peers import Peer, PeerTable
    from ray.runtime.process.timers import Timers

#: Where each concurrency group has places of its own, and those for one group must not hold up those for another.
_WITHOUT_LIMIT = sys.maxsize


class ActorCalls:
    """The actor half of an owner."""

    def __init__(
        self,
        here: Here,
        peers: PeerTable,
        timers: Timers,
        tell_node: Callable[[wire.Struct], None],
        outcomes: Outcomes,
        handing: HandingOver,
        unreached: UnreachedActors,
        may_send: Callable[[], bool],
    ) -> None:
        """Make one.

        Args:
            here: this process.
            peers: the others.
            timers: the runtime's.
            tell_node: sends a message to the node manager.
            outcomes: ends calls.
            handing: of what goes along with calls.
            unreached: decides about actors that cannot be reached.
            may_send: whether this thread has room on its stack to send; if not, another one goes on with this.
        """
        self._here = here
        self._peers = peers
        self._timers = timers
        self._tell_node = tell_node
        self._outcomes = outcomes
        self._handing = handing
        self._unreached = unreached
        self._may_send = may_send
        self.lost = LostConnections(self, timers, outcomes.let_arguments_go, outcomes.actor_ended)
        self._gathering = Gathering(timers, self.pump)
        #: {actor id: client}
        self.clients: dict[bytes, ActorClient] = {}
        #: {object id of the entry that counts handles: actor id}
        self.by_life: dict[bytes, bytes] = {}

    def client(self, actor_id: bytes, class_name: str, concurrent: bool, *, watch: bool) -> ActorClient:
        """The client for an actor; ``watch`` asks the node manager where it is."""
        client = self.clients.get(actor_id)
        if client is None:
            client = self.clients[actor_id] = ActorClient(self, actor_id, class_name, concurrent)
            if watch:
                self._tell_node(node.WatchActor(actor_id))
        return client

    def submit(self, client: ActorClient, record: TaskRecord) -> None:
        """Queue a call behind the earlier ones and send what can go."""
        if client.closed:
            self._outcomes.actor_ended(record, client, UNSTARTED)
            return
        record.place = client
        queue = client.queue
        queue.append(record)
        if client.peer is not None:
            if len(client.inflight) >= client.many and len(queue) % BATCH_TASKS:
                if client.many > 1:
                    self._gathering.add(client)
            elif self._may_send():
                self.pump(client)
        elif client.away is not None:
            self._unreached.called(self, client)

    def settle(self, client: ActorClient) -> None:
        """Decide about the calls that were sent by a connection that is lost for good."""
        self.lost.settle(client)

    def catch_up(self) -> None:
        """A call of this module that was about to send has been interrupted by code that waits for that."""
        for client in list(self.clients.values()):
            if client.queue or client.batch:
                self.pump(client)

    def pump(self, client: ActorClient) -> None:
        """Send calls in order, up to the first one whose arguments are not there.

        A call that interrupts this one, and calls it again, sends what this one was about to send.
        """
        if client.peer is None or not (client.queue or client.batch):
            return
        inflight = client.inflight
        address = self._here.address
        frames: list[Any] = [b""]
        pushed: dict[bytes, ObjectEntry] = {}
        tasks = []
        records: list[TaskRecord] = []
        begun: deque[TaskRecord] | None = None
        batch = (records, frames, pushed)
        while True:
            other = client.batch  # of a call that this one has interrupted
            if other is None:
                break
            begun = deque(other[0])
            records[:] = begun
            if client.batch is other:
                if other[1][0] is not None:
                    other[1][0] = None  # that call gives up
                    break
                self._has_left(client, other)
            begun = None
            records.clear()
        client.batch = batch  # no call comes between the look at the other one and this
        handed, peer = client.handed, client.peer
        queue = client.queue  # not before: it is another one where calls have been put in order
        if peer is None:  # it was lost meanwhile
            client.forget_batch()  # type: ignore[unreachable]
            return
        while True:
            if begun:
                record = begun.popleft()
            else:
                if len(inflight) >= client.window or not queue:  # in this order: a finaliser may come behind ``len``
                    break
                record = queue[0]
                if record.waiting and not record.done and not ends_next(record, inflight):
                    break
                records.append(record)
            if client.batch is not batch:
                return
            is_over = record.done and record.id not in inflight
            if not is_over:
                inflight[record.id] = record
            if queue and queue[0] is record:
                queue.popleft()
            if is_over:
                continue
            if record.refs or record.deps:
                self._handing.arguments(record, peer.address, handed)
            tasks.append(record.to_wire(frames, address, peer, pushed))
        if client.batch is not batch:
            return
        if tasks:
            try:
                peer.push(wire.Push(tasks, depth=self._here.depth), frames)
            except UnpicklableError as error:
                if client.batch is batch:
                    client.forget_batch()
                    self._not_sent(client, tasks, peer, error)
                return
        if client.batch is batch:
            self._has_left(client, batch)

    def _has_left(self, client: ActorClient, batch: Batch) -> None:
        """What was about to be sent is with the transport."""
        client.batch = None
        if client.handed:
            client.handed = set()  # a new one: a call that this one has interrupted goes on with the old one
        peer, pushed = client.peer, batch[2]
        if peer is not None and (pushed or peer.forgets):
            peer.has_left(pushed)

    def _not_sent(self, client: ActorClient, tasks: Sequence[wire.Task], peer: Peer, error: UnpicklableError) -> None:
        """A push was not sent: those at fault fail, and the others go first next time."""
        client.queue.extendleft(reversed(self._handing.take_back(client.inflight, tasks, peer, error)))
        self._timers.after(0.0, lambda: self.pump(client))

    def on_replies(self, client: ActorClient, message: wire.Replies, frames: Any) -> None:
        """Calls have ended."""
        inflight = client.inflight
        self._outcomes.take(client, message, frames, client.peer, lambda record: self.again(client, record))
        cause = None
        if message.reason:
            client.many = MANY_CALLS  # the rest wait for no reply: the actor takes no more, and says so at once
            cause = node.ExitCause(reason=message.reason)
        for id in message.returned:
            back = inflight.pop(id, None)
            if back is None or back.done:
                continue
            if cause is not None:
                self._outcomes.actor_ended(back, client, UNSTARTED, cause)
            else:
                self._requeue(client, back)
        if message.exiting:
            client.window = 0  # nothing more is sent to that process
            if cause is not None:
                # What the process still runs may wait for one of these, and the end waits for what runs.
                self.close(client, cause)
        elif client.queue:
            self.pump(client)

    def peer_lost(self, client: ActorClient) -> None:
        """The connection is gone; the node manager tells what became of the actor, unless that lives."""
        client.peer = None
        client.forget_batch()
        if not client.held:
            self.lost.lost(client)
        self._apply_held(client)

    def updated(self, update: node.ActorUpdate) -> None:
        """The node manager says where the actor is."""
        client = self.clients.get(update.id)
        if client is None:
            return
        ends = client.says_ended(update)
        if client.has_heard(update):
            return
        if client.held:
            client.held.append(update)
        elif client.peer is not None and client.inflight and ends:
            client.held.append(update)
            self._timers.after(LAST_WORDS_S, lambda: self._apply_held(client))
        else:
            self._apply(client, update)

    def _apply_held(self, client: ActorClient) -> None:
        rest, rests = partial(self._apply_each, client), self._outcomes.rests
        rests.append(rest)
        try:
            rest()
        finally:
            rests.remove(rest)

    def _apply_each(self, client: ActorClient) -> None:
        while True:
            if not client.held:
                return
            first = client.held[0]
            self._apply(client, copy(first))  # of which ``_apply`` can tell whether it is the one being acted upon
            if client.held and client.held[0] is first:
                del client.held[0]

    def _apply(self, client: ActorClient, update: node.ActorUpdate) -> None:
        """Do what follows from that. A call that interrupts this does so too, and may go on with what is said later."""
        latest = client.latest
        if client.has_heard(update):
            return
        if client.latest is not latest:
            self.pump(client)
            return
        client.latest = update
        if client.says_ended(update):
            self._process_ended(client, update)
        if client.latest is not update:  # a call that has interrupted this one has done the rest
            self.pump(client)
            return
        client.incarnation = update.incarnation
        client.concurrent = client.concurrent or update.concurrent
        if client.concurrent:
            client.many = MANY_CALLS
        client.lack = update.lack
        if update.state in (actors.ALIVE, actors.DEAD) or update.lack:  # what nobody can place need not be kept
            client.creating = None
        if update.state == actors.RESTARTING:
            self._outcomes.actor_restarts(client, update)
        elif update.state == actors.ALIVE:
            client.crash = ""
            client.window = _WITHOUT_LIMIT if update.groups else MAX_AHEAD + update.places
            client.groups = update.groups
            client.place = update
            self.connect(client, update)
        elif update.state == actors.DEAD:
            if client.created_here and update.error:
                self._outcomes.actor_failed(client, update.error)
            client.error = update.error
            self._outcomes.creation_ended(client)
            client.dead = True
            self.close(client, update.cause)

    def close(self, client: ActorClient, cause: node.ExitCause | None) -> None:
        """No call starts any more."""
        client.closed, client.cause = True, cause
        for record in list(client.queue):
            if not record.done:
                self._outcomes.actor_ended(record, client, UNSTARTED)
        client.queue.clear()

    def connect(self, client: ActorClient, update: node.ActorUpdate, failure: ConnectionError | None = None) -> None:
        """Send it what waits, if it can be reached where it is said to be; it was not if there is a ``failure``.

        A call that interrupts this may connect it, and may hear that it is elsewhere.
        """
        if not client.is_to_connect(update):
            return
        try:
            peer = self._peers.stand(update.address, client, partial(self.connect, client, update), failure)
        except ConnectionError as error:
            if client.is_to_connect(update):
                self._unreached.actor(self, client, update, error)
            return
        if peer is None:
            return
        if client.is_to_connect(update):
            client.away = None
            if client.inflight:
                self.lost.settle(client)
            put_in_order(client)
        if peer.lost:
            self.lost.lost(client)
            return
        if not client.is_to_connect(update):
            self.pump(client)
            return
        peer.sink = client
        client.peer = peer
        self.pump(client)

    def _process_ended(self, client: ActorClient, update: node.ActorUpdate) -> None:
        """Calls that had not started go to the next process; those that had, or may have, are retried or fail."""
        self._meet_fates(client)  # of a call that this one has interrupted
        if client.latest is not update:
            return
        if client.peer is not None and client.peer.sink is client:
            client.peer.sink = None
        client.peer = client.away = None
        inflight = list(client.inflight.values())
        records = [record for record in inflight if not record.done]
        fates = fates_of(client, records, update.cause, self._here.process_id)
        fallen = [Fallen(record, "", update) for record in inflight if record.done]  # they went on without a caller
        fallen += map(Fallen, records, fates, repeat(update))
        client.forget_batch()
        client.limits.clear()
        if client.latest is not update:
            return
        client.closed = update.state == actors.DEAD
        client.place = None
        client.fallen.extend(fallen)
        self._meet_fates(client)

    def _meet_fates(self, client: ActorClient) -> None:
        """Decide about calls whose process has ended; a call that interrupts this goes on with the rest of them."""
        fallen = client.fallen
        while True:
            if not fallen:
                return
            record, fate, update = fallen.popleft()
            if client.inflight.pop(record.id, None) is not record:
                continue
            restarts = update.state != actors.DEAD
            if record.done:
                self._outcomes.let_arguments_go(record)
            elif restarts and fate is UNSTARTED:
                self._requeue(client, record)
            elif restarts and record.retries and not record.cancelled:
                self.again(client, record)
            else:
                self._outcomes.actor_ended(record, client, fate, update.cause, update.error, restarts=restarts)

    def _requeue(self, client: ActorClient, record: TaskRecord) -> None:
        """It has not run: it goes to the next process, unless it was cancelled."""
        if record.cancelled:
            self._outcomes.cancelled(record)
        else:
            client.queue.append(record)

    def again(self, client: ActorClient, record: TaskRecord) -> None:
        """Have a call repeated."""
        record.attempt += 1
        if record.retries > 0:
            record.retries -= 1
        client.queue.append(record)

    def records(self) -> list[TaskRecord]:
        """Those of all calls that are queued or sent."""
        clients = self.clients.values()
        return [record for client in clients for record in (*client.inflight.values(), *client.queue)]

    def cancel_unsent(self, record: TaskRecord, client: ActorClient) -> None:
        """Cancel a call that was not sent."""
        self._outcomes.cancelled(record)
        self.pump(client)  # those behind it need wait no more

    def handle_gone(self, life: ObjectEntry) -> None:
        """The entry that counted this process's handles to an actor is gone."""
        actor_id = self.by_life.pop(life.id, None)
        if actor_id is not None:
            self.forget(actor_id)

    def hold(self, client: ActorClient, life: ObjectEntry) -> None:
        """``life`` counts this process's handles to the actor."""
        client.life = life
        self.by_life[life.id] = client.actor_id

    def holds_handles(self) -> bool:
        """Whether this process keeps any actor alive."""
        return bool(self.by_life)

    def let_go(self, client: ActorClient) -> None:
        """Its actor was refused, so that nobody will need the arguments."""
        self._outcomes.creation_ended(client)
        self.forget(client.actor_id)

    def forget(self, actor_id: bytes) -> None:
        """No handle of this process is left."""
        client = self.clients.get(actor_id)
        if client is not None and not client.inflight and not client.queue:
            del self.clients[actor_id]
            self._outcomes.creation_ended(client)
            # A destructor may use a handle that was collected together with its object, and before it.
            client.dead = client.closed = True
            client.cause = node.ExitCause(reason="its handle was collected as garbage")
