"""Calls of a process to actors: does what the table of calls decides.

Every method is called under the runtime's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ray.clock import monotonic
from ray.exceptions import UnpicklableError
from ray.messages import node, wire
from ray.protocol import call_effects as effects
from ray.protocol.call_records import Away, Callee
from ray.protocol.calls import CallTable
from ray.protocol.references import ObjectEntry
from ray.protocol.task_effects import After
from ray.runtime.owner.actor_client import ActorClient, CallPush
from ray.runtime.owner.carrying_out import CarryingOut
from ray.runtime.owner.records import TaskRecord

if TYPE_CHECKING:
    from ray.runtime.owner.handing_over import HandingOver
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.outcomes import Outcomes
    from ray.runtime.owner.unreached_actors import UnreachedActors
    from ray.runtime.process.peers import Peer, PeerTable
    from ray.runtime.process.timers import Timers

_NONE: dict[bytes, TaskRecord] = {}


class ActorCalls:
    """The shell around an owner's ``CallTable``."""

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
        self._tell_node = tell_node
        self._outcomes = outcomes
        self._handing = handing
        self._unreached = unreached
        self._may_send = may_send
        self.table: CallTable[TaskRecord] = CallTable(here.process_id)
        #: {actor id: client}
        self.clients: dict[bytes, ActorClient] = {}
        #: {object id of the entry that counts handles: actor id}
        self.by_life: dict[bytes, bytes] = {}
        handlers: dict[type, Callable[[Any], object]] = {
            effects.Push: self._push,
            effects.Connect: self._connect,
            effects.Drop: self._drop,
            After: lambda effect: self._wait(timers.after, effect),
            effects.Soon: lambda effect: self._wait(timers.soon, effect),
            effects.End: self._end,
            effects.Refuse: lambda effect: outcomes.unreached([effect.call], effect.error),
            effects.Cancel: self._cancel,
            effects.LetGo: lambda effect: outcomes.let_arguments_go(effect.call),
            effects.Placed: self._placed,
            effects.Restarts: lambda effect: outcomes.actor_restarts(effect.callee, effect.update),
            effects.Ended: self._ended,
        }
        self._carry_out = CarryingOut(self.table, handlers).run

    # --- calls of this process ----------------------------------------------------------------------------------------

    def client(self, actor_id: bytes, class_name: str, concurrent: bool, *, watch: bool) -> ActorClient:
        """The client for an actor; ``watch`` asks the node manager where it is."""
        client = self.clients.get(actor_id)
        if client is None:
            callee: Callee[TaskRecord] = Callee(actor_id, class_name, concurrent)
            made = ActorClient(self, callee)
            client = self.clients.setdefault(actor_id, made)
            self.table.callees[actor_id] = client.callee
            if watch:
                self._tell_node(node.WatchActor(actor_id))
        return client

    def submit(self, client: ActorClient, record: TaskRecord) -> None:
        """Queue a call behind the earlier ones and send what can go."""
        table = self.table
        table.submit(client.callee, record)
        if table.out and self._may_send():
            self._carry_out()

    def pump(self, callee: Callee[TaskRecord]) -> None:
        """Send calls in order, up to the first one whose arguments are not there."""
        self.table.pump(callee)
        self._carry_out()

    def cancel_unsent(self, record: TaskRecord, callee: Callee[TaskRecord]) -> None:
        """Cancel a call that was not sent."""
        self._outcomes.cancelled(record)
        self.pump(callee)  # those behind it need wait no more

    def killed(self, callee: Callee[TaskRecord], place: node.ActorUpdate | None, cause: node.ExitCause | None) -> None:
        """The process of an actor ends, which was at ``place``; ``cause``: of the end of the actor, if that is one."""
        self.table.killed(callee, place, cause)
        self._carry_out()

    def catch_up(self) -> None:
        """A call that was about to send has been interrupted by code that waits for that."""
        self.table.catch_up(monotonic())
        for client in list(self.clients.values()):
            if client.push is not None:
                self.table.out.append(effects.Push(client.callee))
        self._carry_out()

    # --- what the node manager, and actors, say -----------------------------------------------------------------------

    def updated(self, update: node.ActorUpdate) -> None:
        """The node manager says where the actor is."""
        self.table.updated(update, monotonic())
        self._carry_out()

    def on_replies(self, client: ActorClient, message: wire.Replies, frames: Any) -> None:
        """Calls have ended."""
        table, callee, returned = self.table, client.callee, message.returned
        self._outcomes.take(
            callee, message, frames, client.peer, lambda record: table.again(callee, record, monotonic())
        )
        if callee.queue or returned or message.exiting or message.reason:
            table.replied(callee, returned, message.reason, exiting=message.exiting)
            self._carry_out()

    def peer_lost(self, client: ActorClient, peer: Peer) -> None:
        """A connection is gone."""
        callee = client.callee
        batch: dict[bytes, TaskRecord] = {}
        if client.peer is not peer:
            return
        # No call comes between that look and these steps.
        client.peer = None
        callee.connected = False
        callee.batch = batch
        client.forget_push()
        self.table.connection_lost(callee, monotonic())
        self._carry_out()

    # --- actors that cannot be reached: see ``UnreachedActors`` -------------------------------------------------------

    def try_again(self, callee: Callee[TaskRecord], away: Away) -> None:
        """Try to reach an actor that was not reached."""
        self.table.try_again(callee, away)
        self._carry_out()

    # --- handles of actors --------------------------------------------------------------------------------------------

    def handle_gone(self, life: ObjectEntry) -> None:
        """The entry that counted this process's handles to an actor is gone."""
        actor_id = self.by_life.pop(life.id, None)
        if actor_id is not None:
            self.forget(actor_id)

    def hold(self, client: ActorClient, life: ObjectEntry) -> None:
        """``life`` counts this process's handles to the actor."""
        client.life = life
        self.by_life[life.id] = client.callee.actor_id

    def holds_handles(self) -> bool:
        """Whether this process keeps any actor alive."""
        return bool(self.by_life)

    def let_go(self, client: ActorClient) -> None:
        """Its actor was refused, so that nobody will need the arguments."""
        self._outcomes.creation_ended(client)
        self.forget(client.callee.actor_id)

    def forget(self, actor_id: bytes) -> None:
        """No handle of this process is left."""
        if self.table.forget(actor_id) is not None:
            client = self.clients.pop(actor_id, None)
            if client is not None:
                self._outcomes.creation_ended(client)

    # --- what the table has decided -----------------------------------------------------------------------------------

    def _push(self, effect: effects.Push[TaskRecord]) -> None:
        """Send what is in the batch of an actor, and what a call was about to send which this one has interrupted."""
        callee = effect.callee
        client = self.clients.get(callee.actor_id)
        if client is None:
            return
        while True:
            begun = client.push
            if begun is not None and begun[0][0] is None:  # it is with the transport
                client.push = None
                self._has_left(client, begun[3])
                continue
            batch, peer = callee.batch, client.peer
            if peer is None or not (batch or begun):
                return
            frames: list[Any] = [b""]
            pushed: dict[bytes, ObjectEntry] = {}
            fresh: dict[bytes, TaskRecord] = {}
            earlier = _NONE if begun is None else begun[1] | begun[2]
            mine: CallPush = (frames, earlier, batch, pushed)
            if client.push is not begun or callee.batch is not batch or client.peer is not peer:
                continue
            if begun is not None:
                if begun[0][0] is None:
                    continue
                begun[0][0] = None  # the call that was to send it gives up
            # No call comes between these looks and these two steps.
            callee.batch = fresh
            client.push = mine
            handed, address, at_once = client.handed, self._here.address, self._handing.at_once
            tasks = []
            for record in [*earlier.values(), *batch.values()] if earlier else list(batch.values()):
                if record.refs or record.deps:
                    if client.push is not mine:
                        return
                    self._handing.arguments(record, peer, handed)
                if client.push is not mine:
                    return
                tasks.append(record.to_wire(frames, address, peer, pushed, at_once, self._handing.at))
            if client.push is not mine:
                return
            try:
                peer.push(wire.Push(tasks, depth=self._here.depth), frames)
            except UnpicklableError as error:
                if client.push is mine:
                    client.forget_push()
                    self.table.unsent(callee, self._handing.take_back(client.inflight, tasks, peer, error))
                return
            if client.push is not mine:
                return
            client.push = None
            if pushed or handed or peer.forgets:
                self._has_left(client, pushed)
            if not callee.batch:
                return

    def _has_left(self, client: ActorClient, pushed: dict[bytes, ObjectEntry]) -> None:
        """What was about to be sent is with the transport."""
        if client.handed:
            client.handed = set()  # a new one: a call that this one has interrupted goes on with the old one
        peer = client.peer
        if peer is not None and (pushed or peer.forgets):
            peer.has_left(pushed)

    def _connect(self, effect: effects.Connect[TaskRecord]) -> None:
        self._dial(effect.callee, effect.update)

    def _dial(
        self, callee: Callee[TaskRecord], update: node.ActorUpdate, failure: ConnectionError | None = None
    ) -> None:
        """Send it what waits, if it can be reached where it is said to be; it was not if there is a ``failure``.

        A call that interrupts this may connect it, and may hear that it is elsewhere.
        """
        table = self.table
        client = self.clients.get(callee.actor_id)
        if client is None or not callee.is_to_connect(update):
            return
        try:
            again = partial(self._dialled, callee, update)
            peer = self._peers.stand(update.process, update.address, client, again, failure)
        except ConnectionError as error:
            if callee.is_to_connect(update):
                self._unreached.actor(self, callee, update, error)
            return
        if peer is None:
            return
        if callee.is_to_connect(update):
            table.reached(callee, monotonic())
        if callee.is_to_connect(update):
            # No call comes between these looks and these steps.
            if not peer.lost:
                peer.sink = client
                client.peer = peer
                callee.connected = True
            else:
                table.lost(callee)
        table.pump(callee)

    def _dialled(self, callee: Callee[TaskRecord], update: node.ActorUpdate, failure: ConnectionError | None) -> None:
        """It is decided whether an actor is reached."""
        self._dial(callee, update, failure)
        self._carry_out()

    def _drop(self, effect: effects.Drop[TaskRecord]) -> None:
        callee = effect.callee
        client = self.clients.get(callee.actor_id)
        if client is None or callee.connected:  # a call that has interrupted this one has done it, and connected
            return
        peer, client.peer = client.peer, None
        if peer is not None and peer.sink is client:
            peer.sink = None
        client.forget_push()

    def _wait(self, arm: Callable[[float, Callable[[], None]], object], effect: After | effects.Soon) -> None:
        then = effect.then

        def run() -> None:
            then(monotonic())
            self._carry_out()

        arm(effect.delay_s, run)

    def _end(self, effect: effects.End[TaskRecord]) -> None:
        record, fate, cause, error = effect.call, effect.fate, effect.cause, effect.error
        if record.done:  # it may have gone on without a caller
            self._outcomes.let_arguments_go(record)
            return
        restarts, lives = effect.restarts, effect.lives
        self._outcomes.actor_ended(record, effect.callee, fate, cause, error, restarts=restarts, lives=lives)

    def _cancel(self, effect: effects.Cancel[TaskRecord]) -> None:
        if not effect.call.done:
            self._outcomes.cancelled(effect.call)

    def _placed(self, effect: effects.Placed[TaskRecord]) -> None:
        client = self.clients.get(effect.callee.actor_id)
        if client is not None:
            client.creating = None
        if effect.runs:
            effect.callee.crash = ""

    def _ended(self, effect: effects.Ended[TaskRecord]) -> None:
        if effect.error:
            self._outcomes.actor_failed(effect.callee, effect.error, asked=effect.asked)
        client = self.clients.get(effect.callee.actor_id)
        if client is not None:
            self._outcomes.creation_ended(client)
