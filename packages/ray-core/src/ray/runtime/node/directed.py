"""A node's part in the actors that the director keeps: as a home of callers, as a host, and where it directs itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ray.exceptions import ControlStoreError, ControlTimeoutError
from ray.ids import is_directed, node_bytes
from ray.messages import cluster, node
from ray.messages.cluster import NodeRecord
from ray.protocol.actor_entries import DEAD
from ray.runtime.cluster.members import Member
from ray.runtime.cluster.names import ActorNames
from ray.runtime.cluster.orders import Orders
from ray.runtime.cluster.watching import ActorWatching
from ray.runtime.node.actors import check_needs
from ray.runtime.node.client import Client, Handler, of_node
from ray.runtime.node.directed_actors import DirectedActors
from ray.runtime.node.hosted_actors import HostedActors


class Here:
    """This node as a home, where it directs as well: it orders of itself. Implements ``Sender``."""

    id = b""
    job = ""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    def send(self, message: Any) -> None:
        """An order is answered."""
        self._orders.answered(message)


class Directed:
    """Of one node manager of a cluster."""

    def __init__(
        self,
        orders: Orders,
        watching: ActorWatching,
        names: ActorNames,
        hosted: HostedActors,
        keeper: DirectedActors | None,
    ) -> None:
        """Make it.

        Args:
            orders: of this node's processes to the director.
            watching: what they want to know of actors.
            names: finds actors.
            hosted: those whose processes are here.
            keeper: keeps them all, if this node directs, or is to.
        """
        self._orders = orders
        self._watching = watching
        self._names = names
        self._hosted = hosted
        self._keeper = keeper
        #: Processes of this node that have made such actors.
        self._creators: set[bytes] = set()
        #: Numbers of dead nodes whose end was dealt with.
        self._buried: set[int] = set()
        if keeper is not None:
            here = Here(orders)
            orders.take_here = lambda order: keeper.take(here, order)

    def handlers(self) -> dict[type, Handler]:
        """What other node managers ask of this one."""
        keeper = self._keeper
        orders: dict[type, Handler] = {} if keeper is None else {cluster.Order: of_node(keeper.take)}
        return orders | {
            cluster.StartDirected: of_node(self._hosted.start),
            cluster.AskHosted: of_node(self._hosted.asked),
        }

    def heard(self, member: Member, message: cluster.Ordered | cluster.Hosting) -> None:
        """A director has done something, or a host tells of its actors."""
        if isinstance(message, cluster.Ordered):
            self._orders.answered(message)
        elif self._keeper is not None:
            self._keeper.hosting(member, message)

    # --- what processes of this node want -----------------------------------------------------------------------------

    def pass_on(self, client: Client, message: Any) -> bool:
        """Take what a client says of an actor that the director keeps, or of its name; False if it is of none."""
        kind = type(message)
        if kind is node.Question:
            return message.what == "actor" and self._find(client, message)
        if kind is node.CreateActor:
            return is_directed(message.spec.id) and self._create(client, message)
        if kind not in (node.WatchActor, node.KillActor, node.ActorUnheld) or not is_directed(message.id):
            return False
        if kind is node.WatchActor:
            self._watch(client, message)
        elif client.kind == "node":
            return False
        elif kind is node.ActorUnheld:
            self._orders.give("", message)
        else:

            def killed(answer: cluster.Ordered) -> None:
                client.send(node.Answer(message.request, answer.ok, error=answer.error))

            self._orders.give("", message, killed)
        return True

    def _watch(self, client: Client, message: node.WatchActor) -> None:
        if self._keeper is not None:
            self._keeper.watch(client, message.id)
        elif client.kind != "node":  # else it takes this node for the director, and will hear who is
            self._watching.watch(client, message)

    def _create(self, client: Client, message: node.CreateActor) -> bool:
        check_needs(message.spec)  # else the director would hang up on this node
        actor = message.spec.id
        self._creators.add(client.id)
        if self._keeper is None:
            self._watching.created(client.id, actor)

        def created(answer: cluster.Ordered) -> None:
            cause = node.ExitCause(reason=answer.error, unplaced=True)
            if not answer.ok:
                self._watching.not_created(client.id, actor, cause)
            if message.request:
                client.send(node.Answer(message.request, answer.ok, error=answer.error, unavailable=answer.unavailable))
            elif not answer.ok:
                client.send(node.ActorUpdate(actor, DEAD, 0, cause=cause))

        undo = node.KillActor(0, actor, True, "it was not created in time")
        self._orders.give(client.job, message, created, undo)
        return True

    def _find(self, client: Client, message: node.Question) -> bool:
        def found(actor: tuple[bytes, bytes] | ControlStoreError | None) -> None:
            if isinstance(actor, ControlStoreError):
                text = actor.trouble if isinstance(actor, ControlTimeoutError) else actor.reason
                client.send(node.Answer(message.request, False, error=text or actor.reason, unavailable=True))
            else:
                client.send(node.Answer(message.request, True, msgspec.msgpack.encode(actor)))

        namespace, name = msgspec.msgpack.decode(message.data, type=tuple[str, str])
        self._names.find(namespace, name, found)
        return True

    def process_lost(self, client: Client) -> None:
        """A process of this node has ended."""
        if client.id in self._creators:
            self._creators.discard(client.id)
            self._orders.give("", cluster.ProcessGone(client.id))

    def job_over(self, job: str) -> None:
        """The driver of a job has ended."""
        self._orders.job_over(job)

    # --- nodes --------------------------------------------------------------------------------------------------------

    def node_up(self, member: Member) -> None:
        """Another node has answered."""
        self.look()
        if self._keeper is not None:
            self._keeper.node_up(member)

    def look(self) -> None:
        """There may be another director."""
        self._orders.look()
        self._watching.look()

    def nodes_dead(self, causes: Mapping[int, str], gone: Iterable[NodeRecord]) -> None:
        """The director has given its verdicts, all that it remembers."""
        if self._keeper is None:
            return
        records = {record.number: record for record in gone}
        for number, reason in causes.items():
            if number not in self._buried:
                self._buried.add(number)
                record = records.get(number)
                title = f"{number:08x}" if record is None else record.title
                self._keeper.node_dead(node_bytes(number), node.ExitCause(reason=reason, node=title))

    # --- workers of other nodes ---------------------------------------------------------------------------------------

    def start(self, granted: node.Granted, order: node.StartActor) -> bool:
        """A worker was lent that is to be an actor; False if the actor is none of these."""
        if self._keeper is None or not is_directed(order.spec.id):
            return False
        self._keeper.start(granted, order)
        return True

    def lease_ended(self, lease: bytes, cause: node.ExitCause) -> None:
        """A lease of another node is over."""
        if self._keeper is not None:
            self._keeper.lease_ended(lease, cause)
