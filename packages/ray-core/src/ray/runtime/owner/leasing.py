"""Tasks of an owner: queued per scheduling class, pushed to leased workers, completed or retried.

Every method is called under the runtime's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ray.clock import monotonic
from ray.exceptions import UnpicklableError
from ray.messages import node, wire
from ray.runtime.owner.pushing import TaskPushes
from ray.runtime.owner.recalls import Recalls
from ray.runtime.owner.records import (
    AHEAD_TASKS,
    BATCH_TASKS,
    LAST_WORDS_S,
    SHORT_US,
    Link,
    SchedulingClass,
    TaskRecord,
)
from ray.runtime.owner.scheduling_classes import SchedulingClasses

if TYPE_CHECKING:
    from ray.runtime.interface import TaskOptions
    from ray.runtime.owner.handing_over import HandingOver
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.outcomes import Outcomes
    from ray.runtime.owner.unreached_workers import UnreachedWorkers
    from ray.runtime.process.peers import PeerTable
    from ray.runtime.process.timers import Timers

#: An idle lease is kept this long for the next task.
IDLE_HOLD_S = 0.1
_RESULT_LOST = "it ran a later task by then, and the result of this one, not sent yet, was lost with it"
#: Most workers asked for at a time per class.
MAX_DEMAND = 1000


class Leasing:
    """The lease half of an owner."""

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
        self._peers = peers
        self._timers = timers
        self._tell_node = tell_node
        self._outcomes = outcomes
        self._handing = handing
        self._unreached = unreached
        self._may_send = may_send
        #: {lease id: link}
        self.links: dict[bytes, Link] = {}
        self.recalls = Recalls(self, timers, tell_node, here.process_id)
        self.pushes = TaskPushes(here, self.links, handing, self.recalls.watch, self._not_sent)
        self.classes = SchedulingClasses()
        #: Classes with tasks and without a worker.
        self._starving: set[SchedulingClass] = set()
        #: The leases that were granted last.
        self._granted: deque[bytes] = deque(maxlen=100)
        #: {lease id: (link, whether the worker ends)} of those that the node manager is about to be told of.
        self._released: dict[bytes, tuple[Link, bool]] = {}
        self._release_armed = False

    def catch_up(self) -> None:
        """A call that was about to send tasks, or to ask for workers, was interrupted by code that waits for that."""
        self.pushes.catch_up()
        self._let_go()
        for cls in self.classes.all():
            if cls.queue:
                self.pump(cls)
                if cls.queue and not cls.links:
                    self.demand(cls)
        for link in list(self.links.values()):
            if link.is_idle:  # that call may have been about to release it
                self.became_idle(link)

    def demand(self, cls: SchedulingClass) -> None:
        """Ask for ``cls.demanded`` workers; where the question cannot be put, all tasks that wait for them fail."""
        name = cls.queue[0].name if cls.queue else ""
        try:
            self._tell_node(node.Demand(cls.number, cls.resources, cls.demanded, self._here.depth, cls.priority, name))
        except UnpicklableError as error:
            cls.demanded = 0
            records = list(cls.queue)
            cls.queue.clear()
            for record in records:
                self._handing.fail(record, error)
            self.pump(cls)

    def _not_sent(self, link: Link, tasks: Sequence[wire.Task], error: UnpicklableError) -> None:
        """A push to a worker was not sent: those at fault fail, and the others go first next time."""
        self.requeue(self._handing.take_back(link.inflight, tasks, link.peer, error))
        self._timers.after(0.0, lambda: self.pump(link.cls))  # not from within the loop of a pump

    def place(self, options: TaskOptions) -> tuple[TaskOptions, SchedulingClass, bool]:
        """The class of tasks with these options, and whether a worker needs to know nothing of them."""
        return self.classes.find(options, self._here.depth)

    def is_busy(self) -> bool:
        """Whether any task of this owner is queued or pushed, or rests before it is tried again."""
        links, classes = list(self.links.values()), self.classes.all()
        return any(link.inflight for link in links) or any(cls.waits() for cls in classes)

    def enqueue(self, record: TaskRecord, *, has_room: bool = False) -> None:
        """All arguments are there: push the task, or queue it. ``has_room``: on the stack."""
        cls: SchedulingClass = record.link
        queue = cls.queue
        is_first = not queue  # no call comes between the two; one that comes behind leaves what it adds to this one
        queue.append(record)
        is_slow = (export := record.export) is not None and export.mean_us >= SHORT_US
        if (is_slow or is_first or len(queue) % BATCH_TASKS == 0) and (has_room or self._may_send()):
            self.pump(cls)

    def pump(self, cls: SchedulingClass) -> None:
        """Push what the leased workers take, and ask for more workers if that is not all."""
        queue = cls.queue
        while True:
            if not (queue and queue[0].done):
                break
            queue.popleft()  # cancelled meanwhile
        if queue:
            if self._starving:
                self._yield(cls)
            open_links = cls.open_links()
            left = len(open_links)
            for link in open_links:
                if not queue:
                    break
                export = queue[0].export
                assert export is not None
                waiting = len(queue)
                share = -(-waiting // left)
                left -= 1
                inflight = len(link.inflight)
                if inflight >= AHEAD_TASKS and waiting < BATCH_TASKS and 0 <= export.mean_us < SHORT_US:
                    continue
                room = export.pipeline() - inflight
                if inflight and room > 0:
                    room = min(room, link.room())
                if room > 0:
                    self.pushes.push(link, min(share, room))
        self._update_demand(cls)

    def _update_demand(self, cls: SchedulingClass) -> None:
        waiting = len(cls.queue)
        if waiting and not (cls.links or cls.lack):
            self._starving.add(cls)
        else:
            self._starving.discard(cls)
        if waiting:
            if not cls.demanded:
                if not cls.links:
                    self._release_for(cls)
                cls.demanded = min(waiting, MAX_DEMAND)
                self.demand(cls)
        elif cls.demanded:
            cls.demanded, cls.lack = 0, ""
            self.demand(cls)

    # --- leases -----------------------------------------------------------------------------------------------------

    def granted(self, message: node.Granted) -> None:
        """The node manager leased us a worker."""
        cls = self.classes.by_number[message.key]
        cls.lack = ""
        try:
            peer = self._peers.reach(message.address)
        except ConnectionError as error:
            if message.lease not in self._granted:  # else a call that has interrupted this one has been quicker
                self._granted.append(message.lease)
                cls.demanded = max(0, cls.demanded - 1)
                self._unreached.worker(self, cls, message.lease, error)
            return
        link = Link(message.lease, cls, peer, message.pid, message.gpu_ids)
        if message.lease in self.links or message.lease in self._granted:
            return  # a call that has interrupted this one has handled the message
        self.links[message.lease] = link
        peer.sink = link
        cls.demanded = cls.demanded - 1 if cls.demanded > 0 else 0
        cls.links.append(link)
        self._granted.append(message.lease)
        self.pump(cls)
        if not link.inflight:
            self.became_idle(link)

    def infeasible(self, message: node.Infeasible) -> None:
        """No node has what a class needs: others need not make room for it."""
        cls = self.classes.by_number[message.key]
        cls.lack = message.lack if cls.demanded else ""
        self._update_demand(cls)

    def revoked(self, lease: bytes, *, soft: bool) -> None:
        """Others wait: no more pushes; release when what runs has ended (``soft``: when there is nothing to push)."""
        link = self.links.get(lease)
        if link is None:
            return
        link.wanted = True
        if soft:
            if not (link.inflight or link.recall or link.cls.queue or link.dead):
                self._release(link)
            return
        link.revoked = True
        if len(link.inflight) > 1:
            self.recalls.start(link)
        elif not (link.inflight or link.recall):
            self._release(link)
        self._update_demand(link.cls)

    def became_idle(self, link: Link) -> None:
        """A worker has nothing to do: keep it for the next task, unless others wait for it."""
        if link.recall is not None:  # it counts as busy until it has answered
            return
        cls = link.cls
        if link.wanted or not self._starving <= {cls}:
            self._release(link)
            return
        link.idle_since = monotonic()
        if not self._release_armed:
            self._release_armed = True
            self._timers.after(IDLE_HOLD_S, self._release_idle)

    def _release_idle(self) -> None:
        self._release_armed = False
        limit = monotonic() - IDLE_HOLD_S
        idle = [link for link in list(self.links.values()) if link.is_idle]
        for link in idle:
            if link.idle_since <= limit:
                self._release(link)
        if any(link.idle_since > limit for link in idle):
            self._release_armed = True
            self._timers.after(IDLE_HOLD_S / 2, self._release_idle)

    def _release(self, link: Link, *, retired: bool = False) -> None:
        entry = (link, retired)
        if link.dead or (link.inflight and not retired):  # somebody has been quicker, on this very thread
            return
        self._released[link.lease] = entry
        link.dead = True
        self._let_go()

    def _let_go(self) -> None:
        """Tell the node manager of leases that are released; twice does no harm, where a call interrupts this one."""
        for link, retired in list(self._released.values()):
            self._drop(link)
            self._tell_node(node.Release(link.lease, retired))
            self._released.pop(link.lease, None)

    def _drop(self, link: Link) -> None:
        link.dead = True
        self.links.pop(link.lease, None)
        if link in link.cls.links:
            link.cls.links.remove(link)
        if link.peer.sink is link:
            link.peer.sink = None

    def _release_for(self, cls: SchedulingClass) -> None:
        """Tasks of ``cls`` wait for a worker: they need not wait for those that are kept for others' next tasks."""
        for link in list(self.links.values()):
            if link.cls is not cls and link.is_idle:
                self._release(link)

    def _yield(self, cls: SchedulingClass) -> None:
        """Stop pushing to workers that other classes should have now, and release those that have nothing to do."""
        now, starving = monotonic(), list(self._starving)  # a tuple is not made in one step
        for link in list(cls.links):
            if not link.dead and any(other.precedes(link, now) for other in starving):
                link.wanted = link.revoked = True
                if link.is_idle:
                    self._release(link)

    # --- replies ----------------------------------------------------------------------------------------------------

    def on_replies(self, link: Link, message: wire.Replies, frames: Any) -> None:
        """Tasks have ended."""
        inflight = link.inflight
        link.progress = monotonic()
        link.stalled = False
        self._outcomes.take(inflight, message, frames, link.peer, self._retry)
        if message.returned:
            self.take_back(link, message.returned)
        if message.exiting:
            self.requeue(list(inflight.values()))
            inflight.clear()
            link.forget_batch()
            self._release(link, retired=True)
        cls = link.cls
        if cls.queue:
            self.pump(cls)
        if not inflight and not link.dead:
            self.became_idle(link)

    def on_returned(self, link: Link, message: wire.Returned) -> None:
        """Tasks were not started and come back; ``blocked``: its running task waits for others."""
        link.blocked = link.blocked or message.blocked
        self.take_back(link, message.tasks)
        self.recalls.returned(link, message)
        self.pump(link.cls)
        if link.revoked and not (link.inflight or link.recall or link.dead):
            self._release(link)

    def on_unblocked(self, link: Link) -> None:
        """Its task goes on."""
        link.blocked = False
        if link.inflight:
            self.pump(link.cls)
        elif not link.dead:
            self.became_idle(link)

    def take_back(self, link: Link, ids: Iterable[bytes]) -> None:
        """The worker will not start these, as far as they are still its own: they go to others."""
        inflight = link.inflight
        self.requeue([inflight.pop(id) for id in ids if id in inflight])

    def requeue(self, records: list[TaskRecord]) -> None:
        """They go first next time, in order, unless they were cancelled."""
        for record in reversed(records):
            if record.cancelled and not record.done:  # its cancel came to the worker too late, or never
                self._outcomes.cancelled(record)
            if not record.done:
                link = record.link
                link.batch.pop(record.id, None)
                cls = record.link = link.cls
                cls.queue.appendleft(record)

    def _retry(self, record: TaskRecord) -> None:
        """Run it once more, after a pause that grows with the attempts."""
        record.attempt += 1
        if record.retries > 0:
            record.retries -= 1
        cls = record.link = record.link.cls
        cls.resting += 1

        def again() -> None:
            cls.resting -= 1
            if not record.done:
                cls.queue.appendleft(record)
                self.pump(cls)

        if record.attempt == 1:
            again()
        else:
            self._timers.after(min(2.0, 0.025 * 2.0 ** min(record.attempt, 10)), again)

    # --- failures ---------------------------------------------------------------------------------------------------

    def peer_lost(self, link: Link) -> None:
        """The connection is gone; the node manager will say how the worker ended."""
        if link.ended is not None:
            self._ended(link, link.ended)
        elif not link.dead:
            link.dead = True
            self._tell_node(node.Suspect(link.lease))

    def lease_ended(self, message: node.LeaseEnded) -> None:
        """The worker is dead; the replies that it has sent come first, up to the end of the connection."""
        link, cause = self.links.get(message.lease), message.cause
        if link is None:
            return
        if link.dead or not link.inflight:
            self._ended(link, cause)
        else:
            link.ended = cause
            link.wanted = link.revoked = True
            self._timers.after(LAST_WORDS_S, lambda: self._ended(link, cause))

    def _ended(self, link: Link, cause: node.ExitCause) -> None:
        """What the worker had not started goes elsewhere, the rest is retried or fails."""
        if self.links.get(link.lease) is not link:
            return
        self._drop(link)
        records, started = list(link.inflight.values()), link.started(cause.running, died=True)
        link.inflight.clear()
        link.forget_batch()
        self.requeue(records[started:])
        for record in records[:started]:
            if record.done:
                continue
            if record.retries and not record.cancelled:
                self._outcomes.dies_again(record, cause)
                self._retry(record)
            elif record is records[started - 1]:
                self._outcomes.crashed(record, cause)
            else:  # results of short tasks are sent in batches
                self._outcomes.crashed(record, msgspec.structs.replace(cause, reason=_RESULT_LOST))
        self.pump(link.cls)

    def cancel_unsent(self, record: TaskRecord) -> None:
        """Cancel a task that is with no worker."""
        cls = record.link
        record.cancelled = True
        self._outcomes.cancelled(record)
        if cls is not None:
            self.pump(cls)
