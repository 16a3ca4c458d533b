"""Tasks taken back from workers that do not get on: another worker may have them.

Every method is called under the runtime's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from ray.clock import monotonic
from ray.ids import make_task_ids
from ray.messages import node, wire
from ray.protocol.run_slot import OpenRecall

if TYPE_CHECKING:
    from ray.runtime.owner.records import Link, SchedulingClass
    from ray.runtime.process.timers import Timers

#: A worker without a reply for this long gets no more tasks, and is asked to give back what it has not started.
STALL_S = 0.01
#: If it does not answer for this long, its interpreter is busy: a C call keeps it. The node manager sees to it then.
BUSY_S = 0.02


class Leased(Protocol):
    """The tasks of an owner, and the workers that it has leased for them."""

    #: {lease id: link}
    links: dict[bytes, Link]

    def take_back(self, link: Link, ids: Iterable[bytes]) -> None: ...
    def pump(self, cls: SchedulingClass) -> None: ...
    def became_idle(self, link: Link) -> None: ...


class Recalls:
    """The recalls of an owner. Owner and worker agree at each one's end: see ``ray.protocol.run_slot``."""

    def __init__(
        self, tasks: Leased, timers: Timers, tell_node: Callable[[node.RecallLease], None], process_id: bytes
    ) -> None:
        self._tasks = tasks
        self._timers = timers
        self._tell_node = tell_node
        #: Ids of recalls; nobody takes them for those of tasks.
        self._new_id = make_task_ids(process_id)

    def watch(self, cls: SchedulingClass) -> None:
        """A worker has tasks that wait there for another one: look in a moment whether it gets on."""
        if not cls.checking:
            cls.checking = True
            self._timers.after(STALL_S, lambda: self._look(cls))

    def _look(self, cls: SchedulingClass) -> None:
        cls.checking = False
        limit = monotonic() - STALL_S
        waits = False
        for link in list(cls.links):
            if len(link.inflight) > 1 and not (link.recall or link.blocked or link.dead):
                if link.progress <= limit:
                    self.start(link)
                else:
                    waits = True
        if waits:
            self.watch(cls)

    def start(self, link: Link) -> None:
        """Ask a worker to give back what it has not started; no effect if it was asked already."""
        if link.recall is not None:
            return
        link.stalled = True
        recall = link.recall = OpenRecall(self._new_id(), link.inflight)
        link.peer.send(wire.Recall(recall.id))
        self._timers.after(BUSY_S, lambda: self._insist(link, recall))

    def _insist(self, link: Link, recall: OpenRecall) -> None:
        if link.recall is recall and not link.dead:
            recall.asked = True
            self._tell_node(node.RecallLease(link.lease, recall.id))

    def returned(self, link: Link, message: wire.Returned) -> None:
        """A worker has answered a recall, or gives tasks back by itself."""
        recall = link.recall
        if recall is not None and message.recall == recall.id:
            recall.answered = True
            recall.settled = message.settled
            self._settle(link, recall)

    def recalled(self, message: node.LeaseRecalled) -> None:
        """The node manager has put a recall in force, or the worker has answered it."""
        link = self._tasks.links.get(message.lease)
        recall = link.recall if link is not None else None
        if link is None or recall is None or recall.id != message.recall:
            return  # the worker has ended meanwhile
        recall.asked = False
        if message.in_force:
            revoked = recall.put_in_force(message.running)
            for id in revoked:
                if id in link.inflight:
                    link.inflight[id].alone = True
            self._tasks.take_back(link, revoked)
        self._settle(link, recall)
        self._tasks.pump(link.cls)

    def _settle(self, link: Link, recall: OpenRecall) -> None:
        if recall.ended:
            link.recall = None
            if not link.inflight and not link.dead:
                self._tasks.became_idle(link)
