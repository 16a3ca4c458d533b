"""A node manager as one of several: what it hears from other nodes, and what it passes on to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from ray.abc.transport import Frame
from ray.exceptions import RemoteProtocolError
from ray.ids import node_bytes, node_number, node_of, process_of
from ray.messages import cluster, codec, finding, jobs, node, objects, wire
from ray.messages.cluster import NodeRecord
from ray.protocol.leases import LeaseTable
from ray.protocol.lending import LendingTable
from ray.runtime.cluster.actor_hosts import ActorHosts
from ray.runtime.cluster.belonging import Belonging
from ray.runtime.cluster.borrowing import LeaseBorrowing
from ray.runtime.cluster.data_calls import DataCalls
from ray.runtime.cluster.lending import LeaseLending
from ray.runtime.cluster.members import Member, Members
from ray.runtime.cluster.watching import ActorWatching
from ray.runtime.cluster.whereabouts import Whereabouts
from ray.runtime.node.actors import NodeActors
from ray.runtime.node.client import Client, Handler, of_node
from ray.runtime.node.directed import Directed
from ray.runtime.node.jobs import answer_of
from ray.runtime.node.known_nodes import KnownNodes
from ray.runtime.node.no_objects import NoObjects
from ray.runtime.node.objects import NodeObjects
from ray.runtime.node.processes import NodeProcesses
from ray.runtime.process.output_window import weight

Heard: TypeAlias = Callable[[Member, Any], None]
"""What takes a kind of message of another node manager."""


MakeDirected: TypeAlias = Callable[[Belonging, LeaseBorrowing, ActorWatching], Directed]

#: What may be about an actor that the director keeps.
ABOUT_ACTORS = (node.CreateActor, node.WatchActor, node.KillActor, node.ActorUnheld, node.Question)


class Joined:
    """Implements ``Others``."""

    def __init__(
        self,
        own: bytes,
        members: Members,
        belonging: Belonging,
        lent: LendingTable,
        leases: LeaseTable,
        actors: NodeActors,
        processes: NodeProcesses,
        directed: MakeDirected,
    ) -> None:
        """Nothing was heard yet.

        Args:
            own: process id of this node manager.
            members: the others.
            belonging: this node's place among them.
            lent: what they lend.
            leases: of this node.
            actors: that this node keeps.
            processes: of this node.
            directed: makes its part in the actors that the director keeps.
        """
        self._stored: NodeObjects | NoObjects = NoObjects()
        self._looks = False
        #: Numbers of nodes with which what was said is lost, and begins anew.
        self._anew: set[bytes] = set()
        #: Ends what another node manager has here, which is dead; set before anything is heard.
        self.home_gone: Callable[[Client], None] = lambda client: None
        self._own = own
        self._node = node_of(own)
        self._members = members
        self._belonging = belonging
        self._lent = lent
        self._leases = leases
        self._actors = actors
        self._processes = processes
        self._hosts = actors.elsewhere = ActorHosts(members)
        self._watching = ActorWatching(members, processes, lambda: node_bytes(belonging.director_number))
        self._whereabouts = Whereabouts(self._node, members, processes.of_this_node)
        self._lending = LeaseLending(leases, processes, actors.timers, processes.homes, actors.desk.apply)
        self._borrowing = LeaseBorrowing(
            lent,
            leases,
            members,
            processes,
            actors.timers,
            actors.desk.apply,
            self._actor_granted,
            self._actor_ended,
        )
        self._directed = directed(belonging, self._borrowing, self._watching)
        self.known = KnownNodes(belonging, lent, self._transfers)
        leases.others = lent
        self._heard: dict[type, Heard] = {
            **members.handlers(self._begin_anew),
            cluster.LeasesLent: self._borrowing.compare,
            cluster.Roster: lambda member, message: self.take_roster(member.record, message),
            cluster.JoinRefused: lambda member, message: belonging.refused(message.reason),
            cluster.ClusterOver: lambda member, message: belonging.over(member),
            cluster.Heard: lambda member, message: belonging.heard(member, message.number),
            cluster.Load: self._borrowing.load,
            cluster.Refuse: self._borrowing.refused,
            cluster.Offer: self._borrowing.offered,
            finding.Found: self._whereabouts.found,
            finding.FoundLife: self._whereabouts.found_life,
            cluster.ToDriver: self._to_driver,
            cluster.OfProcess: self._of_process,
            cluster.Ordered: self._directed.heard,
            cluster.Hosting: self._directed.heard,
            node.Granted: self._borrowing.granted,
            node.LeaseEnded: self._borrowing.lease_ended,
            node.Revoke: self._of_lease,
            node.LeaseRecalled: self._of_lease,
            node.CallRevoked: self._of_task,
            node.Overdue: self._of_task,
            node.ActorUpdate: self._watching.updated,
            node.Answer: lambda member, message: self._watching.answered(message),
        }

    def share(self, stored: NodeObjects, calls: DataCalls) -> None:
        """Others read what is in the store of this node; ``calls`` to their data ports, if it is the director."""
        self._stored = stored
        self.hear_also(objects.DataTicket, stored.take_ticket)
        self.hear_also(objects.Door, calls.answered)

    def hear_also(self, kind: type, take: Heard) -> None:
        """Another part of the node manager takes what others say of this kind."""
        self._heard[kind] = take

    # --- connections --------------------------------------------------------------------------------------------------

    def admit(self, client: Client) -> None:
        """See ``Others``."""
        self._belonging.admit(node_of(client.id))

    def met(self, client: Client) -> None:
        """Another node manager is there, or there again: what was said before has been repeated."""
        self._lending.meet(client)

    def keeps(self, client: Client) -> bool:
        """Whether another node manager, whose connection is lost, is one of the cluster: only a verdict ends it."""
        return self._belonging.is_one(node_number(client.id))

    def hear(self, member: Member, frames: Sequence[Frame]) -> None:
        """See ``Others``."""
        if self._members.members.get(member.node) is not member:
            return  # it was hung up on
        said = self._members.opened(member, frames)
        if not said:
            return  # it was said before
        message = codec.decode(said)
        if type(message) is wire.Welcome:
            if not member.stands:
                member.stands = True
                self._borrowing.node_up(member)
                if member.node in self._anew:
                    self._anew.discard(member.node)
                    self._watching.ask_again(member)
                    self._whereabouts.ask_again(member)
                self._belonging.reached(member)
                self._directed.node_up(member)
                self._actors.desk.look_at_infeasible()
            return
        heard = self._heard.get(type(message))
        if heard is None:
            raise RemoteProtocolError(f"{type(message).__name__} is not for the home of a process")
        heard(member, message)

    def member_lost(self, member: Member) -> None:
        """See ``Others``."""
        if self._members.lost(member):
            self._borrowing.node_lost(member)
            self._belonging.lost(member)

    def _begin_anew(self, member: Member) -> None:
        """What was said to another node manager is lost, or was lost there; when it is there again, that is made up.

        What it lends is compared then, and what it was asked it is asked again: it lives, and so do its actors.
        """
        self._anew.add(member.node)
        self.member_lost(member)

    def client_lost(self, client: Client) -> None:
        """See ``Others``."""
        self._stored.client_lost(client)
        if client.kind == "node":
            self._processes.home_lost(client.id)
        else:
            self._borrowing.owner_lost(client.id, "the process that submitted its task has died")
            self._watching.process_lost(client.id)
            self._whereabouts.process_lost(client.id)
            self._directed.process_lost(client)

    def _down(self, member: Member, reason: str) -> None:
        self._anew.discard(member.node)
        self._borrowing.node_down(member, reason)
        self._watching.node_down(member, reason)
        self._whereabouts.node_down(member, reason)
        self._processes.node_down(member.node)
        self._actors.desk.look_at_infeasible()

    def take_roster(self, director: NodeRecord, roster: cluster.Roster) -> None:
        """A director says which nodes there are."""
        before = {record.number for record in self._belonging.others}
        causes = self._belonging.take(director, roster)
        if causes is None:
            return
        gone = before.difference(record.number for record in self._belonging.others).union(causes)
        for home in self._processes.homes():
            if node_number(home.id) in gone:
                self.home_gone(home)
        for member in self._members.want(self._belonging.others):
            cause = causes.get(member.record.number, "it has left the cluster")
            self._down(member, cause)
        for number, cause in causes.items():
            lost = f"it was on the node {self._belonging.title_of(number)}, which is dead: {cause}"
            self._stored.node_down(node_bytes(number), lost)
        self._directed.look()
        self._directed.nodes_dead(causes, self._belonging.gone)
        self._actors.desk.look_at_infeasible()

    def awake(self) -> bool:
        """A turn of the loop begins; False: this node may not run any more, and hears nothing of what has come."""
        return self._belonging.awake()

    def leave(self, reason: str) -> None:
        """See ``Others``."""
        self._stored.close()
        self._belonging.leave(reason)

    # --- leases -------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """See ``Others``: once for all that is handled in one turn of the loop."""
        if not self._looks:
            self._looks = True
            self._actors.timers.after(0.0, self._look)

    def _look(self) -> None:
        self._looks = False
        self._borrowing.look()
        self._lending.changed()

    def job_over(self, job: str, *, goes_on: bool) -> Collection[bytes]:
        """See ``Others``."""
        self._directed.job_over(job)
        return self._borrowing.job_over(job, goes_on=goes_on)

    def _of_lease(self, member: Member, message: node.Revoke | node.LeaseRecalled) -> None:
        self._borrowing.tell_owner(message.lease, message)

    def _of_task(self, member: Member, message: node.CallRevoked | node.Overdue) -> None:
        self._processes.send_to(process_of(message.task), message)

    def _to_driver(self, member: Member, message: cluster.ToDriver) -> None:
        told = codec.decode([message.message])
        if isinstance(told, jobs.AskPackage):
            member.send(self._processes.piece_of(message.job, told.offset))
            return
        if not isinstance(told, (node.Ending, node.Logs, node.RecordError, node.ShowFailure, jobs.AskPath)):
            raise RemoteProtocolError(f"{type(told).__name__} is not for a driver of another node")
        if isinstance(told, node.Logs) and not told.node:
            told = msgspec.structs.replace(told, node=member.name)
        self._processes.tell_driver(message.job, told, member.node)
        if isinstance(told, node.Logs):
            member.send(cluster.JobPrinted(message.job, weight(told)))

    # --- actors -------------------------------------------------------------------------------------------------------

    def _actor_granted(self, number: int, granted: node.Granted) -> None:
        order = self._actors.granted_elsewhere(number, granted)
        if order is None:
            self._borrowing.release(node.Release(granted.lease))
        elif not self._directed.start(granted, order):
            self._hosts.begin(granted, order)

    def _actor_ended(self, lease: bytes, cause: node.ExitCause) -> None:
        worker = self._hosts.ended(lease)
        if worker is not None:
            self._actors.worker_lost_elsewhere(worker, cause)
        else:
            self._directed.lease_ended(lease, cause)

    def _of_process(self, member: Member, message: cluster.OfProcess) -> None:
        """The process of an actor says something of itself."""
        said, worker = codec.decode([message.message]), message.process
        lease = self._hosts.lease_of(worker)
        if lease is None:
            return
        if isinstance(said, node.ActorStarted):
            self._actors.apply(self._actors.table.started(worker, said.error))
        elif isinstance(said, node.ActorExiting):
            self._actors.exiting(worker, said.reason)
        elif isinstance(said, node.Lingering):
            self._lent.ended(lease)
            self._actor_ended(lease, node.ExitCause(exit_code=0))
        else:
            raise RemoteProtocolError(f"{type(said).__name__} is not for the keeper of an actor")

    # --- what is asked of this node -----------------------------------------------------------------------------------

    def pass_on(self, client: Client, message: Any) -> bool:
        """See ``Others``."""
        kind = type(message)
        if kind in ABOUT_ACTORS and self._directed.pass_on(client, message):
            return True
        if kind in (node.CreateActor, node.Question, node.ActorUnheld):
            return False
        if kind in (node.ActorStarted, node.ActorExiting, node.Lingering):
            lease = self._leases.by_worker.get(client.id)
            if lease is None or lease.key[0] == self._own:
                return False
            said = cluster.OfProcess(client.id, codec.encode(message))
            return self._processes.send_to(lease.key[0], said) and kind is not node.Lingering
        if kind is jobs.Path:
            if node_of(message.worker) == self._node:
                return False
            answer = codec.encode(answer_of(message))
            return self._members.send(node_of(message.worker), cluster.ToProcess(message.worker, answer))
        if kind in (node.WatchActor, node.KillActor):
            if node_of(message.id) == self._node or client.kind == "node":
                return False
            (self._watching.watch if kind is node.WatchActor else self._watching.kill)(client, message)
            return True
        if not message.lease or node_of(message.lease) == self._node:
            return False
        if kind is node.Release:
            self._borrowing.release(message)
        elif not self._borrowing.of_lease(message.lease, message) and kind is node.Suspect:
            client.send(node.LeaseEnded(message.lease, node.ExitCause(reason="the lease had ended before")))
        return True

    def handlers(self) -> dict[type, Handler]:
        """See ``Others``."""
        lending, processes = self._lending, self._processes
        return {
            **{kind: of_node(take) for kind, take in self._belonging.handlers().items()},
            cluster.Borrow: of_node(lending.borrow),
            cluster.Abandon: of_node(lending.abandon),
            cluster.LeasesHeld: of_node(lending.compare),
            cluster.AdoptJob: of_node(lending.adopt),
            finding.Seek: of_node(self._whereabouts.sought),
            finding.SeekLife: of_node(self._whereabouts.sought_life),
            finding.Lives: lambda client, message, frames: self._whereabouts.ask_life(client, message),
            finding.Where: lambda client, message, frames: self._whereabouts.ask(client, message),
            finding.Listens: lambda client, message, frames: self._whereabouts.listens(client, message),
            cluster.JobOver: of_node(
                lambda client, message: processes.end_job(message.job, client.id, goes_on=message.goes_on)
            ),
            cluster.JobPrinted: of_node(lambda client, message: processes.printed(message.job, message.amount)),
            cluster.ToProcess: of_node(self._to_process),
            cluster.KillProcess: of_node(lambda client, message: processes.kill(message.process, message.reason)),
            cluster.ExpectProcess: of_node(lambda client, message: processes.expect_end(message.process)),
            cluster.ShrinkLease: of_node(self._shrink),
            **self._directed.handlers(),
            **self._stored.handlers(),
        }

    def _transfers(self) -> Mapping[str, int]:
        return {**self._stored.counts, "queued": self._stored.queued, "pid": self._stored.pid}

    def _to_process(self, client: Client, message: cluster.ToProcess) -> None:
        said = codec.decode([message.message])
        if not isinstance(said, (node.StartActor, wire.Terminate, node.Answer)):
            raise RemoteProtocolError(f"{type(said).__name__} is not for a process of another node")
        self._processes.send_to(message.process, said)

    def _shrink(self, client: Client, message: cluster.ShrinkLease) -> None:
        lease = self._leases.leases.get(message.lease)
        if lease is not None and lease.key[0] == client.id:
            self._actors.desk.apply(self._leases.shrink(lease, dict(message.resources)))
