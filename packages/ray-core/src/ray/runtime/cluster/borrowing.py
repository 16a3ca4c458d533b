"""The home's half of lending: it asks other nodes for workers, and speaks for the owners that get them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from ray.clock import monotonic
from ray.ids import node_of
from ray.messages import cluster, node
from ray.protocol.leases import Effect, LeaseTable
from ray.protocol.lending import LendingTable, Lent, Loan, Wish
from ray.runtime.cluster.members import Member, Members
from ray.runtime.cluster.peering import Processes
from ray.runtime.process.timers import Timers

#: How often it is looked whether other nodes have come to have room, while an owner waits.
_LOOK_S = 0.5


class LeaseBorrowing:
    """Of one node manager."""

    def __init__(
        self,
        table: LendingTable,
        leases: LeaseTable,
        members: Members,
        processes: Processes,
        timers: Timers,
        apply: Callable[[list[Effect]], None],
        on_actor: Callable[[int, node.Granted], None],
        on_actor_end: Callable[[bytes, node.ExitCause], None],
    ) -> None:
        """Nothing is borrowed yet.

        Args:
            table: decides.
            leases: of this node.
            members: the other nodes.
            processes: of this node.
            timers: of this node manager.
            apply: carries out what the lease table decides.
            on_actor: takes a worker for an actor, and the number of the demand.
            on_actor_end: told of the end of such a worker's lease, by the lease's id.
        """
        #: Process id of this node manager, which asks for actors itself.
        self._own = leases.node_id
        self._table = table
        self._leases = leases
        self._members = members
        self._processes = processes
        self._timers = timers
        self._apply = apply
        self._on_actor = on_actor
        self._on_actor_end = on_actor_end
        #: {(node, job)} of the nodes that were asked for workers of a job.
        self._told: set[tuple[bytes, str]] = set()
        self._armed = self._keeps = False

    def look(self) -> None:
        """An owner may wait for what this node has no room for, or another node may have come to have it."""
        if self._ask():  # for what others are not asked for, there may be room here
            self._apply(self._leases.schedule())

    def _look_anew(self) -> None:
        """The same where others may have less room than was thought: what is left is for this node."""
        if self._leases.demands:
            self._ask()
            self._apply(self._leases.schedule())

    def _ask(self) -> bool:
        """Ask other nodes for what is missing; returns whether any was asked."""
        now = monotonic()
        self._table.tick(now)
        wishes = self._wishes()
        looks = wishes or self._table.remembers
        loans = self._table.look(wishes, now, self._leases.view()) if looks else []
        for loan in loans:
            self._borrow(loan)
        if wishes and not self._armed:
            self._armed = True
            self._timers.after(_LOOK_S, self._look_again)
        until = self._table.keeps_until()
        if until is not None and not self._keeps:
            self._keeps = True
            self._timers.after(max(0.0, until - now), self._kept)
        return bool(loans)

    def _wishes(self) -> list[Wish]:
        return [
            Wish(
                entry.key,
                entry.request,
                count,
                entry.job,
                entry.name,
                entry.for_life,
                entry.placement,
                entry.elsewhere,
                entry.prefer,
                entry.placed > 0,
                self._leases.has_workers(entry.job),
            )
            for entry, count in self._leases.unmet()
            # What homes of other nodes wait for they ask for themselves.
            if self._processes.serves(entry.job) and node_of(entry.key[0]) == node_of(self._own)
        ]

    def _borrow(self, loan: Loan) -> None:
        wish, request = loan.wish, loan.wish.request
        self.adopt_at(loan.node, wish.job)
        self._members.send(
            loan.node,
            cluster.Borrow(
                loan.number,
                dict(request.resources),
                loan.left,
                wish.job,
                request.depth,
                request.priority,
                wish.name,
                wish.for_life,
                loan.claims,
                loan.has_none,
            ),
        )

    def adopt_at(self, node: bytes, job: str) -> None:
        """Tell another node manager what a job wants, unless nothing is known of the job any more."""
        config = self._processes.config_of(job)
        if config:
            self._told.add((node, job))
            self._members.send(node, cluster.AdoptJob(job, config))

    def taken(self, lease: bytes) -> None:
        """A lease of another node is that node's own from now on."""
        self._table.ended(lease)

    def give_back(self, lease: bytes) -> None:
        """A lease of another node is not needed."""
        self.release(node.Release(lease))

    def _kept(self) -> None:
        """Some have waited long enough for the node that they prefer."""
        self._keeps = False
        self._look_anew()

    def _look_again(self) -> None:
        self._armed = False
        self._look_anew()

    # --- what lenders say ---------------------------------------------------------------------------------------------

    def load(self, member: Member, message: cluster.Load) -> None:
        """A node says what is free there."""
        self._table.node_free(member.node, message.free)
        self._look_anew()

    def refused(self, member: Member, message: cluster.Refuse) -> None:
        """A node does not lend."""
        self._table.refused(message.number, message.count)
        self._look_anew()

    def offered(self, member: Member, message: cluster.Offer) -> None:
        """A node keeps room for a worker of a job of this home, which may want none any more."""
        loan = self._table.offered(member.node, message, self._wishes(), monotonic(), self._leases.view())
        if loan is None:
            member.send(cluster.Borrow(0, message.resources, 0, message.job, for_life=message.for_life))
        else:
            self._borrow(loan)

    def granted(self, member: Member, message: node.Granted) -> None:
        """A node lends a worker; if its owner wants none any more, it goes back."""
        if message.lease in self._table.lent:
            return  # it was said twice
        key = self._table.granted(message.key, message.lease)
        if key is None:
            member.send(node.Release(message.lease))
            return
        if not self._leases.met_elsewhere(key):
            self._table.ended(message.lease)
            member.send(node.Release(message.lease))
        elif key[0] == self._own:
            self._on_actor(key[1], message)
        else:
            gpu_ids, process = message.gpu_ids, message.process
            self._processes.send_to(
                key[0], node.Granted(key[1], message.lease, message.address, message.pid, gpu_ids, process)
            )

    def lease_ended(self, member: Member, message: node.LeaseEnded) -> None:
        """The worker of a lease is dead."""
        lent = self._table.ended(message.lease)
        if lent is not None:
            self._end(lent, message.cause)

    def _end(self, lent: Lent, cause: node.ExitCause) -> None:
        if lent.key[0] == self._own:
            self._on_actor_end(lent.id, cause)
        else:
            self._processes.send_to(lent.key[0], node.LeaseEnded(lent.id, cause))

    def tell_owner(self, lease: bytes, message: Any) -> None:
        """Pass on what a lender says of a lease."""
        lent = self._table.lent.get(lease)
        if lent is not None and lent.key[0] != self._own:
            self._processes.send_to(lent.key[0], message)

    def compare(self, member: Member, message: cluster.LeasesLent) -> None:
        """On a new connection a node says what it lends: what it does not name has ended."""
        named = set(message.leases)
        for lent in [lent for lent in self._table.lent.values() if lent.node == member.node and lent.id not in named]:
            self._table.ended(lent.id)
            self._end(lent, node.ExitCause(reason="its lease had ended when its node manager was heard again"))
        held = [id for id in message.leases if id in self._table.lent]
        member.send(cluster.LeasesHeld(held, message.number))

    # --- what owners say ----------------------------------------------------------------------------------------------

    def release(self, message: node.Release) -> None:
        """An owner is done with a lease of another node."""
        lent = self._table.ended(message.lease)
        if lent is not None:
            self._members.send(lent.node, message)

    def of_lease(self, lease: bytes, message: Any) -> bool:
        """Pass on what an owner says of a lease of another node; False if it is none."""
        lent = self._table.lent.get(lease)
        return lent is not None and self._members.send(lent.node, message)

    def owner_lost(self, owner: bytes, reason: str) -> None:
        """An owner has died: the workers that it had on other nodes end."""
        by_node: dict[bytes, list[bytes]] = {}
        for lent in self._table.owner_lost(owner):
            by_node.setdefault(lent.node, []).append(lent.id)
        for node_number, ids in by_node.items():
            self._members.send(node_number, cluster.Abandon(ids, reason))

    def job_over(self, job: str, *, goes_on: bool) -> Collection[bytes]:
        """No other node is needed for a job any more; ``goes_on``: its driver may live, on another node.

        Returns those that were told, which say when they have ended what they had of it.
        """
        told = [number for number, named in self._told if named == job]
        for number in told:
            self._told.discard((number, job))
        return [number for number in told if self._members.send(number, cluster.JobOver(job, goes_on))]

    # --- nodes --------------------------------------------------------------------------------------------------------

    def node_up(self, member: Member) -> None:
        """A node has answered."""
        record = member.record
        self._table.node_up(member.node, record.total, record.labels, record.name)
        self._apply(self._leases.nodes_changed())

    def node_lost(self, member: Member) -> None:
        """A node cannot be told anything for a while: it is asked for nothing more."""
        self._table.node_free(member.node, {})

    def node_down(self, member: Member, reason: str) -> None:
        """A node is gone, and with it what it has lent."""
        self._told = {each for each in self._told if each[0] != member.node}
        for lent in self._table.node_down(member.node):
            self._end(lent, node.ExitCause(reason=reason, node=member.title))
        self._apply(self._leases.nodes_changed())
        self._look_anew()
