"""The actors that a director keeps: those that have a name, or outlive their creators.

They are in the table of actors of its node manager, as others are, and get their workers as others do. What is decided
of them is written down before anybody hears of it, or any process is told to be one; so the next director finds them,
and none runs twice. Their processes are of their hosts, the node managers of their nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ray.exceptions import RemoteProtocolError
from ray.ids import is_directed, node_of, process_of
from ray.messages import cluster, codec, node
from ray.protocol.actor_entries import DEAD, STARTING, ActorEntry, Place
from ray.protocol.actors import INIT_RAISED
from ray.runtime.cluster.actor_book import TAKEN, ActorBook
from ray.runtime.cluster.members import Member, Members
from ray.runtime.cluster.peering import Sender
from ray.runtime.node.actor_records import AtOnce
from ray.runtime.node.actors import NodeActors, check_needs
from ray.runtime.node.directing import Cluster, Loans, OrphanJobs
from ray.runtime.node.kept_actors import buried, is_new_kill, kept_of, restored

_UNKNOWN = "its node does not have its process any more"
_GONE = "its node has died"
_NOT_WANTED = "the director has another process for the actor, or none"
_JOB_OVER = "its job is over"
_MOST_REFUSED = 1000
#: A kill is answered after this time at the latest, whether or not it is written.
_KILLED_S = 2.0
#: Homes find a new director within this time.
_ADOPTED_S = 10.0


class _Creation:
    """A new actor that is not written yet."""

    def __init__(self) -> None:
        #: What was to be done about it meanwhile, in order.
        self.behind: list[Callable[[], None]] = []
        self.is_orphaned = False


class DirectedActors(AtOnce):
    """Of a node manager that directs, or is to. Implements ``ActorRecords``."""

    def __init__(
        self,
        actors: NodeActors,
        book: ActorBook,
        members: Members,
        jobs: OrphanJobs,
        cluster: Cluster,
        loans: Loans,
    ) -> None:
        """It knows of none yet.

        Args:
            actors: that this node keeps.
            book: has them on record.
            members: the other nodes.
            jobs: of this node.
            cluster: what is known of it.
            loans: workers of other nodes.
        """
        self._actors = actors
        self._table = actors.table
        self._book = book
        self._members = members
        self._jobs = jobs
        self._cluster = cluster
        self._loans = loans
        self._is_ready = False
        #: What has come before this node directs.
        self._early: list[Callable[[], None]] = []
        self._creating: dict[bytes, _Creation] = {}
        #: {actor that could not be had: why}, the newest last
        self._refused: dict[bytes, tuple[str, bool]] = {}
        #: {lease id: worker that was lent, and is to be told that it is an actor}
        self._starting: dict[bytes, bytes] = {}
        #: {process on another node: the actor that it is}, until it has certainly ended
        self._running: dict[bytes, bytes] = {}
        #: {host: (number of the newest question to it, the processes that it was to have then)}
        self._asked: dict[bytes, tuple[int, list[bytes]]] = {}
        self._numbers = itertools.count(1)
        #: {actor that is to have another process: what places it}
        self._held: dict[bytes, Callable[[], None]] = {}
        #: {process of an actor of an earlier director: what waits until its host has told of it}
        self._unconfirmed: dict[bytes, list[Callable[[], None]]] = {}

    # --- the beginning ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """This node directs from now on, or again: what others have left is read first."""
        self._book.turn()
        if not self._is_ready:
            self._book.read(self._restore)

    def _restore(self, found: Sequence[tuple[cluster.KeptActor, cluster.BornActor | None]]) -> None:
        if self._is_ready:
            return
        self._is_ready = True
        living: list[tuple[ActorEntry, cluster.BornActor]] = []
        for kept, born in found:
            if kept.dead or born is None:
                self._table.bury(buried(kept))
            else:
                entry = restored(kept, born)
                self._table.restore(entry)
                living.append((entry, born))
        for job, config in {born.job: born.config for _, born in living}.items():
            self._jobs.take_over(job, config)
            self._actors.timers.after(_ADOPTED_S, partial(self._jobs.let_go, job))
        alive = self._cluster.alive()
        for entry, _ in living:
            worker = entry.worker
            if worker is not None and node_of(worker) in alive:
                self._running[worker] = entry.spec.id
                self._unconfirmed[worker] = []
        for number in {node_of(entry.spec.id) for entry, _ in living} - alive:
            self._actors.apply(self._table.owner_lost(number))
        for entry, _ in living:
            worker = entry.worker
            if worker is not None and worker not in self._running:
                self._actors.worker_lost_elsewhere(worker, node.ExitCause(reason=_GONE))
            elif worker is None and entry.ready and entry.state != DEAD:
                self._actors.apply([Place(entry)])
        for member in list(self._members.members.values()):
            self.node_up(member)
        early, self._early = self._early, []
        for act in early:
            act()

    def _when_ready(self, act: Callable[[], None]) -> None:
        if self._is_ready:
            act()
        else:
            self._early.append(act)

    # --- orders -------------------------------------------------------------------------------------------------------

    def take(self, client: Sender, order: cluster.Order) -> None:
        """A home wants something done."""
        message = codec.decode([order.message])
        if isinstance(message, node.CreateActor):
            check_needs(message.spec)
            if not is_directed(message.spec.id):
                raise RemoteProtocolError("an actor that the director does not keep")
        elif not isinstance(message, (node.KillActor, node.ActorUnheld, cluster.ProcessGone)):
            raise RemoteProtocolError(f"{type(message).__name__} is no order to a director")
        self._when_ready(lambda: self._carry_out(client, order, message))

    def _carry_out(self, client: Sender, order: cluster.Order, message: Any) -> None:
        if isinstance(message, cluster.ProcessGone):
            for actor, creation in self._creating.items():
                creation.is_orphaned |= actor.startswith(message.process)
            self._actors.apply(self._table.owner_lost(message.process))
            client.send(cluster.Ordered(order.number))
            return
        actor = message.spec.id if isinstance(message, node.CreateActor) else message.id
        waits = self._creating.get(actor)
        if waits is not None:
            waits.behind.append(lambda: self._carry_out(client, order, message))
        elif isinstance(message, node.CreateActor):
            self._create(client, order, message)
        elif isinstance(message, node.ActorUnheld):
            self._actors.apply(self._table.unheld(actor))
            client.send(cluster.Ordered(order.number))
        else:
            self._actors.when_known(actor, lambda: self._kill(client, order.number, message))

    def _create(self, client: Sender, order: cluster.Order, message: node.CreateActor) -> None:
        spec = message.spec
        if spec.id in self._refused:  # it is ordered again, and was told so already
            client.send(cluster.Ordered(order.number, False, *self._refused[spec.id]))
            return
        known = self._table.actors.get(spec.id)
        born = cluster.BornActor(spec, order.job, self._jobs.config_of(order.job), message.ready)
        if known is not None:
            self._create_again(client, order, message, known, born)
            return
        if not born.config:  # nobody can tell what its processes would need
            self._refuse(spec.id, _JOB_OVER, lacks=False)
            client.send(cluster.Ordered(order.number, False, _JOB_OVER))
            return
        self._creating[spec.id] = _Creation()

        def done(problem: str, lacks: bool) -> None:
            creation = self._creating.pop(spec.id)
            if problem == TAKEN:
                problem = f"The name {spec.name!r} is already taken by a live actor in namespace {spec.namespace!r}."
            if not problem:
                effects = self._actors.add(spec, order.job, _watcher(client, spec.id), ready=message.ready)
                client.send(cluster.Ordered(order.number))
                self._actors.added(spec.id, effects)
                if creation.is_orphaned:
                    self._actors.apply(self._table.owner_lost(spec.id))
            else:
                self._refuse(spec.id, problem, lacks=lacks)
                client.send(cluster.Ordered(order.number, False, problem, lacks))
            for act in creation.behind:
                act()

        self._book.create(born, done)

    def _refuse(self, actor: bytes, problem: str, *, lacks: bool) -> None:
        self._refused[actor] = problem, lacks
        if len(self._refused) > _MOST_REFUSED:
            del self._refused[next(iter(self._refused))]

    def _create_again(
        self,
        client: Sender,
        order: cluster.Order,
        message: node.CreateActor,
        known: ActorEntry,
        born: cluster.BornActor,
    ) -> None:
        """It was ordered before, perhaps of an earlier director; or its arguments have come."""
        if known.state != DEAD:
            known.watchers.add(_watcher(client, message.spec.id))
        if known.ready or not message.ready or known.state == DEAD:
            client.send(cluster.Ordered(order.number))
            return

        def written() -> None:
            self._actors.apply(self._table.create(message.spec, order.job))
            client.send(cluster.Ordered(order.number))

        self._book.write(kept_of(known), written, born)

    def _kill(self, client: Sender, number: int, message: node.KillActor) -> None:
        """A store that is away keeps nobody from killing."""
        known, answers = self._kill_once(client, number, message), [client]

        def answer() -> None:
            if answers:
                answers.pop().send(cluster.Ordered(number, known))

        self._book.when_written(message.id, answer)
        self._actors.timers.after(_KILLED_S, answer)

    def _kill_once(self, client: Sender, number: int, message: node.KillActor) -> bool:
        """End its process, unless that was done for this order; False if the actor is not known."""
        entry = self._table.actors.get(message.id)
        if entry is None or not client.id or message.no_restart:  # this node's own orders end with it
            return self._actors.kill(message)
        return not is_new_kill(entry, client.id, number, self._cluster.alive()) or self._actors.kill(message)

    def watch(self, client: Sender, actor: bytes) -> None:
        """A home, or a process of this node, wants to be told where an actor is."""
        self._when_ready(lambda: self._watch(client, actor))

    def _watch(self, client: Sender, actor: bytes) -> None:
        creation, known = self._creating.get(actor), self._table.actors.get(actor)
        unconfirmed = None if known is None or known.worker is None else self._unconfirmed.get(known.worker)
        waits = unconfirmed if creation is None else creation.behind
        if waits is None:
            self._actors.watch(client, actor)
        else:
            waits.append(lambda: self._watch(client, actor))

    # --- what is on record --------------------------------------------------------------------------------------------

    def placed(self, entry: ActorEntry, start: Callable[[], None]) -> None:
        """See ``ActorRecords``."""
        if is_directed(entry.spec.id):
            self._book.write(kept_of(entry), start)
        else:
            start()

    def may_place(self, entry: ActorEntry, place: Callable[[], None]) -> None:
        """See ``ActorRecords``."""
        if entry.spec.id in self._running.values():
            self._held[entry.spec.id] = place
        else:
            place()

    def changed(self, entry: ActorEntry) -> None:
        """See ``ActorRecords``."""
        if is_directed(entry.spec.id):
            self._book.write(kept_of(entry))

    # --- processes on other nodes -------------------------------------------------------------------------------------

    def start(self, granted: node.Granted, order: node.StartActor) -> None:
        """Another node has lent a worker: it becomes an actor once that is written, and is its own node's then."""
        entry = self._table.actors[order.spec.id]
        self._starting[granted.lease] = granted.process

        def start() -> None:
            if self._starting.pop(granted.lease, None) is None:
                return
            member = self._members.members.get(node_of(granted.process))
            if entry.worker != granted.process or member is None:
                self._loans.give_back(granted.lease)
                return
            self._loans.taken(granted.lease)
            self._running[granted.process] = order.spec.id
            member.send(
                cluster.StartDirected(
                    self._cluster.term(),
                    granted.lease,
                    order.spec,
                    order.incarnation,
                    order.gpu_ids,
                    granted.process,
                )
            )

        self.placed(entry, start)

    def lease_ended(self, lease: bytes, cause: node.ExitCause) -> None:
        """A lease of another node is over before its worker has become an actor."""
        worker = self._starting.pop(lease, None)
        if worker is not None:
            self._actors.apply(self._table.worker_lost(worker, cause, begun=False))

    def node_up(self, member: Member) -> None:
        """Another node has answered: what it hosts may not be what is known here."""
        if self._is_ready and member.stands:
            number = next(self._numbers)
            self._asked[member.node] = number, [worker for worker in self._running if node_of(worker) == member.node]
            member.send(cluster.AskHosted(self._cluster.term(), number))

    def hosting(self, member: Member, message: cluster.Hosting) -> None:
        """A host tells of its processes."""
        for each in message.actors:
            if node_of(each.process) == member.node:
                self._heard(each)
        if message.whole:
            told = {each.process for each in message.actors}
            number, asked_of = self._asked.get(member.node, (0, []))
            for worker in asked_of if number == message.number else ():
                if worker in self._running and worker not in told:
                    known = self._table.actors.get(self._running[worker])
                    began = known is not None and known.state != STARTING
                    self._over(worker, node.ExitCause(reason=_UNKNOWN), begun=began)

    def _heard(self, host: cluster.HostedActor) -> None:
        worker = host.process
        is_mine = self._table.by_worker.get(worker) == host.id
        if host.state != DEAD:
            is_new = worker not in self._running or worker in self._unconfirmed
            self._running[worker] = host.id
            if not is_mine:  # it was to end, and the order was lost; or the store has lost the actor
                self._actors.elsewhere.kill(worker, _NOT_WANTED)
                return
            if is_new:
                self._loans.adopt_at(node_of(worker), self._table.actors[host.id].job)
        if host.exiting and is_mine:
            self._actors.exiting(worker, host.exiting)
        if host.state == DEAD:
            if host.error and host.cause is not None and host.cause.reason == INIT_RAISED:
                self._actors.apply(self._table.started(worker, host.error))
            self._over(worker, host.cause or node.ExitCause(), begun=host.begun)
        elif host.state != STARTING:
            self._actors.apply(self._table.started(worker, b""))
        self._confirm(worker)

    def _over(self, worker: bytes, cause: node.ExitCause, *, begun: bool = True) -> None:
        """A process on another node has certainly ended."""
        actor = self._running.pop(worker, None)
        self._actors.apply(self._table.worker_lost(worker, cause, begun=begun))
        if actor is None:
            return
        if actor not in self._running.values():
            place = self._held.pop(actor, None)
            if place is not None:
                place()
        self._confirm(worker)

    def _confirm(self, worker: bytes) -> None:
        for act in self._unconfirmed.pop(worker, ()):
            act()

    def node_dead(self, number: bytes, cause: node.ExitCause) -> None:
        """The verdict on another node: what it had ordered before is carried out first."""
        self._when_ready(lambda: self._node_dead(number, cause))

    def _node_dead(self, number: bytes, cause: node.ExitCause) -> None:
        for actor, creation in self._creating.items():
            creation.is_orphaned |= actor.startswith(number)
        self._actors.apply(self._table.owner_lost(number))
        for worker in [worker for worker in self._running if node_of(worker) == number]:
            self._over(worker, cause)


def _watcher(client: Sender, actor: bytes) -> bytes:
    """Who is told of an actor: another home, or its creator itself where this node is its home."""
    return client.id or process_of(actor)
