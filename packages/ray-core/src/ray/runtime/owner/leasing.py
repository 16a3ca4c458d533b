"""Tasks of an owner and the workers that it leases for them: does what the table of tasks decides.

Every method is called under the runtime's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ray.clock import monotonic
from ray.exceptions import TaskUnschedulableError, UnpicklableError
from ray.ids import make_task_ids, node_number, node_of
from ray.messages import node, wire
from ray.protocol import task_effects as effects
from ray.protocol.task_records import Lease
from ray.protocol.tasks import TaskTable
from ray.runtime.owner.borrowing import STRIKE_S
from ray.runtime.owner.carrying_out import CarryingOut
from ray.runtime.owner.pushing import TaskPushes
from ray.runtime.owner.records import Link, TaskRecord
from ray.runtime.owner.scheduling_classes import SchedulingClasses

if TYPE_CHECKING:
    from ray.protocol.task_records import SchedulingClass
    from ray.runtime.interface import TaskOptions
    from ray.runtime.owner.handing_over import HandingOver
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.outcomes import Outcomes
    from ray.runtime.owner.unreached_workers import UnreachedWorkers
    from ray.runtime.process.peers import PeerTable
    from ray.runtime.process.timers import Timers


class Leasing:
    """The shell around an owner's ``TaskTable``."""

    def __init__(
        self,
        here: Here,
        peers: PeerTable,
        timers: Timers,
        tell_node: Callable[[wire.Struct], None],
        outcomes: Outcomes,
        handing: HandingOver,
        unreached: UnreachedWorkers,
        may_send: Callable[[], bool],
    ) -> None:
        """Make one.

        Args:
            here: this process.
            peers: the others.
            timers: the runtime's.
            tell_node: sends a message to the node manager.
            outcomes: ends tasks.
            handing: of what goes along with tasks.
            unreached: decides about workers that cannot be reached.
            may_send: whether this thread has room on its stack to send; if not, another one goes on with this.
        """
        self._here = here
        self._node = node_of(here.process_id)
        self._peers = peers
        self._timers = timers
        self._tell_node = tell_node
        self._outcomes = outcomes
        self._handing = handing
        self._unreached = unreached
        self._may_send = may_send
        self.tasks: TaskTable[TaskRecord] = TaskTable(make_task_ids(here.process_id))
        #: {lease id: the way to its worker}
        self.links: dict[bytes, Link] = {}
        self._classes = SchedulingClasses(self.tasks.classes)
        self._pushes = TaskPushes(here, handing, self)
        handlers: dict[type, Callable[[Any], object]] = {
            effects.Push: self._push,
            effects.Ask: self._ask,
            effects.Release: self._release,
            effects.Forget: lambda effect: self._drop(effect.lease.id),
            effects.Suspect: lambda effect: tell_node(node.Suspect(effect.lease.id)),
            effects.Recall: self._recall,
            effects.Insist: lambda effect: tell_node(node.RecallLease(effect.lease.id, effect.recall.id)),
            effects.After: lambda effect: self._after(effect.delay_s, effect.then),
            effects.Cancel: self._cancel,
            effects.Crash: self._crash,
            effects.RunAgain: lambda effect: outcomes.dies_again(effect.task, effect.cause),
        }
        self._carry_out = CarryingOut(self.tasks, handlers).run

    # --- tasks of this process ----------------------------------------------------------------------------------------

    def place(self, options: TaskOptions) -> tuple[TaskOptions, SchedulingClass[TaskRecord], bool]:
        """The class of tasks with these options, and whether a worker needs to know nothing of them."""
        return self._classes.find(options, self._here.depth)

    def near(self, cls: SchedulingClass[TaskRecord], at: bytes) -> SchedulingClass[TaskRecord]:
        """The class of those of ``cls`` that are to run on that node if it has room soon."""
        return self._classes.near(cls, at)

    def enqueue(self, cls: SchedulingClass[TaskRecord], record: TaskRecord, *, has_room: bool = False) -> None:
        """All arguments are there: push the task, or queue it. ``has_room``: on the stack."""
        if self.tasks.enqueue(cls, record) and (has_room or self._may_send()):
            self.pump(cls)

    def pump(self, cls: SchedulingClass[TaskRecord]) -> None:
        """Push what the leased workers of a class take, and ask for more if that is not all."""
        self.tasks.pump(cls, monotonic())
        self._carry_out()

    def cancel_unsent(self, record: TaskRecord, cls: SchedulingClass[TaskRecord] | None) -> None:
        """Cancel a task that is with no worker; ``cls``: None if it never came to be queued."""
        record.cancelled = True
        self._outcomes.cancelled(record)
        if cls is not None:
            self.pump(cls)

    def catch_up(self) -> None:
        """A call that was about to send tasks, or to ask for workers, was interrupted by code that waits for that."""
        self.tasks.catch_up(monotonic())
        self._carry_out()

    # --- what the node manager says -----------------------------------------------------------------------------------

    def granted(self, message: node.Granted, failure: ConnectionError | None = None) -> None:
        """The node manager leased us a worker; it was not reached if there is a ``failure``."""
        lease = self.tasks.granted(message.key, message.lease, monotonic())
        if lease is None:
            return
        try:
            again = partial(self.granted, message)
            peer = self._peers.stand(message.process, message.address, message.lease, again, failure)
        except ConnectionError as error:
            cls = self.tasks.unreached(lease)
            if cls is not None:
                self._unreached.worker(self, cls, message.lease, error)
            return
        if peer is None:  # it is dialled
            return
        link, id, links = Link(lease, peer, message.pid, message.gpu_ids), lease.id, self.links
        if not (lease.dead or id in links):  # no call comes between this and the next two steps
            links[id] = link
            peer.sink = link
        self.tasks.reached(lease, monotonic())
        self._carry_out()

    def infeasible(self, message: node.Infeasible) -> None:
        """No node has what a class needs."""
        if message.fails:
            cls = self.tasks.classes[message.key]
            for record in self.tasks.drain(cls):
                if not record.done:
                    self._outcomes.refused(record, TaskUnschedulableError(record.name, message.lack))
            self.pump(cls)
            return
        self.tasks.infeasible(message.key, message.lack, monotonic())
        self._carry_out()

    def revoked(self, message: node.Revoke) -> None:
        """Others wait for a worker."""
        self.tasks.revoked(message.lease, monotonic(), soft=message.soft)
        self._carry_out()

    def recalled(self, message: node.LeaseRecalled) -> None:
        """The node manager has put a recall in force, or the worker has answered it."""
        running = message.running if message.in_force else None
        self.tasks.recalls.in_force(message.lease, message.recall, running, monotonic())
        self._carry_out()

    def lease_ended(self, message: node.LeaseEnded) -> None:
        """A worker is dead."""
        self.tasks.lease_ended(message.lease, message.cause, monotonic())
        self._carry_out()

    # --- what workers say ---------------------------------------------------------------------------------------------

    def on_replies(self, link: Link, message: wire.Replies, frames: Any) -> None:
        """Tasks have ended."""
        lease = link.lease
        self._outcomes.take(lease, message, frames, link.peer, partial(self._retry, link))
        self.tasks.replied(lease, message.returned, monotonic(), exiting=message.exiting)
        self._carry_out()

    def on_returned(self, link: Link, message: wire.Returned) -> None:
        """Tasks were not started and come back."""
        blocked, recall, settled = message.blocked, message.recall, message.settled
        self.tasks.returned(link.lease, message.tasks, monotonic(), blocked=blocked, recall=recall, settled=settled)
        self._carry_out()

    def on_unblocked(self, link: Link) -> None:
        """The task that waited for others goes on."""
        self.tasks.unblocked(link.lease, monotonic())
        self._carry_out()

    def peer_lost(self, link: Link) -> None:
        """The connection is gone."""
        self.tasks.connection_lost(link.lease, monotonic())
        self._carry_out()

    def _retry(self, link: Link, record: TaskRecord) -> None:
        self.tasks.retry(link.lease, record, monotonic())

    # --- pushes that could not be made: see ``NotSent`` ---------------------------------------------------------------

    def withdrawn(self, link: Link, record: TaskRecord) -> None:
        """No message can hold this task."""
        self.tasks.withdrawn(link.lease, record)

    def unsent(self, link: Link, tasks: Sequence[wire.Task], error: UnpicklableError) -> None:
        """A push was not sent: those at fault fail, and the others go first next time."""
        batch = link.lease.batch
        for task in tasks:  # also those that fail
            batch.pop(task.id, None)
        self.tasks.unsent(link.lease, self._handing.take_back(link.inflight, tasks, link.peer, error))

    # --- workers that cannot be reached: see ``UnreachedWorkers`` -----------------------------------------------------

    def pause(self, cls: SchedulingClass[TaskRecord]) -> None:
        """Ask for no more workers for a while."""
        self.tasks.pause(cls)
        self._carry_out()

    def go_on(self, cls: SchedulingClass[TaskRecord]) -> None:
        """Ask for workers again."""
        self.tasks.go_on(cls, monotonic())
        self._carry_out()

    def drain(self, cls: SchedulingClass[TaskRecord]) -> list[TaskRecord]:
        """Take away what is queued in a class, which nobody is going to run."""
        return self.tasks.drain(cls)

    # --- what the table has decided -----------------------------------------------------------------------------------

    def _push(self, effect: effects.Push[TaskRecord]) -> None:
        link = self.links.get(effect.lease.id)
        if link is not None:
            self._pushes.push(link)

    def _ask(self, effect: effects.Ask[TaskRecord]) -> None:
        """Ask for workers; where the question cannot be put, all tasks that wait for them fail."""
        cls = effect.cls
        name, count = cls.queue[0].name if cls.queue else "", 0 if cls.paused else cls.demanded
        try:
            depth, placement = self._here.depth, cls.placement
            near = node_number(cls.near) if cls.near else 0
            self._tell_node(node.Demand(cls.number, cls.resources, count, depth, cls.priority, name, placement, near))
        except UnpicklableError as error:
            self.tasks.unasked(cls)
            for record in self.tasks.drain(cls):
                self._handing.fail(record, error)
            self.tasks.pump(cls, monotonic())

    def _release(self, effect: effects.Release[TaskRecord]) -> None:
        lease = effect.lease
        self._drop(lease.id)
        self._tell_node(node.Release(lease.id, effect.retired))

    def _drop(self, lease_id: bytes) -> None:
        link = self.links.pop(lease_id, None)
        if link is not None:
            link.forget_push()
            if link.peer.sink is link:
                link.peer.sink = None

    def _recall(self, effect: effects.Recall[TaskRecord]) -> None:
        link = self.links.get(effect.lease.id)
        if link is not None:
            link.peer.send(wire.Recall(effect.recall.id))

    def _cancel(self, effect: effects.Cancel[TaskRecord]) -> None:
        if not effect.task.done:
            self._outcomes.cancelled(effect.task)

    def _crash(self, effect: effects.Crash[TaskRecord]) -> None:
        record = effect.task
        if record.done:
            return
        if record.pins and isinstance(record.place, Lease) and node_of(record.place.id) != self._node:
            # The worker may have handed refs in them to others, and not have come to say so.
            self._timers.after(STRIKE_S, self._outcomes.arguments_for_later(record))
        self._outcomes.crashed(record, effect.cause)

    def _after(self, delay_s: float, then: Callable[[float], None]) -> None:
        def run() -> None:
            then(monotonic())
            self._carry_out()

        self._timers.after(delay_s, run)
