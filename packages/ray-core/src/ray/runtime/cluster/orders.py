"""Orders of a home to the director, about actors that the director keeps.

They are kept until they are answered, and given again, in order, to a director that is new, or with which what was
said before is lost. So one may come twice. To do it twice is to do it once; of a kill after which an actor restarts the
director has it on record which one was the last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from ray.clock import monotonic
from ray.messages import cluster, codec
from ray.messages.wire import Struct
from ray.runtime.cluster.members import Member, Members
from ray.runtime.process.kept_connection import KeptConnection
from ray.runtime.process.timers import Timers

#: How often it is looked whether an order has waited for too long.
_LOOK_S = 0.5


class Jobs(Protocol):
    """What the director has to know of a job before it takes orders for it."""

    def adopt_at(self, node: bytes, job: str) -> None:
        """Tell another node manager what a job wants."""


class _Given(NamedTuple):
    order: cluster.Order
    on_answer: Callable[[cluster.Ordered], None]
    since: float
    #: The message that undoes it, if it may be given up.
    undo: Struct | None


class Orders:
    """Of one node manager."""

    def __init__(
        self,
        director: Callable[[], bytes],
        members: Members,
        jobs: Jobs,
        timers: Timers,
        timeout_s: float,
    ) -> None:
        """None is given yet.

        Args:
            director: number of the node that directs, as far as is known.
            members: the others.
            jobs: of this node.
            timers: of this node manager.
            timeout_s: how long a director is waited for that does not answer.
        """
        self._director = director
        self._members = members
        self._jobs = jobs
        self._timers = timers
        self._timeout_s = timeout_s
        #: Takes orders where this node directs; set before anything is served.
        self.take_here: Callable[[cluster.Order], None] | None = None
        #: {number: order that is not answered}, oldest first
        self._given: dict[int, _Given] = {}
        self._last = 0
        #: The same, of those that wait for a director.
        self._unsent: dict[int, cluster.Order] = {}
        #: The conversation in which they were given last, and {job} of those that the director there knows.
        self._over: KeptConnection | None = None
        self._adopted: set[str] = set()
        self._armed = False

    @property
    def _is_director(self) -> bool:
        return self.take_here is not None

    def give(
        self,
        job: str,
        message: Struct,
        on_answer: Callable[[cluster.Ordered], None] = lambda answer: None,
        undo: Struct | None = None,
    ) -> None:
        """Have the director do something.

        Args:
            job: that the director has to know for it; empty: none. What ends with a job comes behind the word that the
                job is over, and must not make it known again.
            message: what is to be done.
            on_answer: told what has become of it.
            undo: what makes it undone, if it is not answered in time; None: it is waited for.
        """
        self._last += 1
        order = cluster.Order(self._last, job, codec.encode(message))
        self._given[order.number] = _Given(order, on_answer, monotonic(), undo)
        if self.take_here is not None:
            self.take_here(order)
        else:
            self._unsent[order.number] = order
            self.look()
        if undo is not None and not self._armed:
            self._armed = True
            self._timers.after(_LOOK_S, self._look_at_times)

    def look(self) -> None:
        """There may be another director, or a connection to it: it gets what it was not given, or may have lost."""
        if self._is_director:
            return
        member = self._members.members.get(self._director())
        if member is None or not member.stands:
            return
        if member.talk is not self._over:
            self._over = member.talk
            self._unsent = {number: given.order for number, given in self._given.items()}
            known, self._adopted = self._adopted, set()
            for job in known:
                self._adopt(member, job)
        unsent, self._unsent = self._unsent, {}
        for order in unsent.values():
            self._send(member, order)

    def _send(self, member: Member, order: cluster.Order) -> None:
        self._adopt(member, order.job)
        member.send(order)

    def _adopt(self, member: Member, job: str) -> None:
        if job and job not in self._adopted:
            self._adopted.add(job)
            self._jobs.adopt_at(member.node, job)

    def job_over(self, job: str) -> None:
        """The director is told that it need not know of the job any more."""
        self._adopted.discard(job)

    def answered(self, message: cluster.Ordered) -> None:
        """The director has done it, or cannot."""
        self._unsent.pop(message.number, None)
        given = self._given.pop(message.number, None)
        if given is not None:
            given.on_answer(message)

    def _look_at_times(self) -> None:
        self._armed = False
        now = monotonic()
        for number, given in list(self._given.items()):
            if given.undo is None:
                continue
            if now - given.since < self._timeout_s:
                self._armed = True
                continue
            del self._given[number]
            self._unsent.pop(number, None)
            self.give("", given.undo)
            why = f"the director of the cluster has not answered for {now - given.since:.1f} s"
            given.on_answer(cluster.Ordered(number, False, why, unavailable=True))
        if self._armed:
            self._timers.after(_LOOK_S, self._look_at_times)
