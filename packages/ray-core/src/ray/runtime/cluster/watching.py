"""Actors of other nodes, for the processes of this one: where they are, and orders to their keepers.

The keeper of an actor is the director, if the actor has a name or outlives its creator, else the node manager of its
creator's node, whose number its id begins with. Each node manager asks a keeper once, and tells all of its processes
that want to know. A director that dies does not take its actors along: the next one is asked.
"""

from __future__ import annotations

from collections.abc import Callable

from ray.ids import is_directed, node_of
from ray.messages import node
from ray.protocol.actor_entries import DEAD
from ray.runtime.cluster.members import Member, Members
from ray.runtime.cluster.peering import Processes, Sender


class ActorWatching:
    """Of one node manager."""

    def __init__(self, members: Members, processes: Processes, director: Callable[[], bytes]) -> None:
        self._members = members
        #: Number of the node that directs, as far as is known.
        self._director = director
        #: The connection to the director that was asked last.
        self._asked_of: Member | None = None
        self._processes = processes
        #: {actor id: processes of this node that want to know where it is}
        self._watchers: dict[bytes, set[bytes]] = {}
        #: {actor id: what its keeper has said last}
        self._newest: dict[bytes, node.ActorUpdate] = {}
        #: {number of a request to a keeper: who has asked here, with what number, the keeper's node, and the request}
        self._asked: dict[int, tuple[bytes, int, bytes, node.KillActor]] = {}
        self._last = 0

    def watch(self, client: Sender, message: node.WatchActor) -> None:
        """A process wants to be told where an actor of another node is."""
        actor = message.id
        watchers = self._watchers.setdefault(actor, set())
        is_new = not watchers
        watchers.add(client.id)
        newest = self._newest.get(actor)
        if newest is not None:
            client.send(newest)
        is_told = not is_new or self._members.send(self._keeper_of(actor), node.WatchActor(actor))
        if not is_told and not is_directed(actor) and not self._members.is_there(node_of(actor)):
            self._tell(_dead(actor, "its node is dead"))

    def created(self, process: bytes, actor: bytes) -> None:
        """A process has an actor made that the director keeps, and is told of it without asking."""
        self._watchers.setdefault(actor, set()).add(process)

    def not_created(self, process: bytes, actor: bytes, cause: node.ExitCause) -> None:
        """The director does not make it; that process, its creator, is told so otherwise."""
        watchers = self._watchers.get(actor)
        if watchers is not None:
            watchers.discard(process)
            self._tell(node.ActorUpdate(actor, DEAD, 0, cause=cause))

    def _keeper_of(self, actor: bytes) -> bytes:
        return self._director() if is_directed(actor) else node_of(actor)

    def look(self) -> None:
        """There may be another director, or another connection to it: it is asked for all that is wanted of it."""
        member = self._members.members.get(self._director())
        if member is None or not member.stands or member is self._asked_of:
            return
        self._asked_of = member
        for actor in self._watchers:
            if is_directed(actor):
                member.send(node.WatchActor(actor))

    def updated(self, member: Member, message: node.ActorUpdate) -> None:
        """A keeper says where an actor is."""
        if self._keeper_of(message.id) == member.node:
            self._tell(message)

    def _tell(self, update: node.ActorUpdate) -> None:
        watchers = self._watchers.get(update.id)
        if watchers is None:
            return
        if update.state == DEAD:
            del self._watchers[update.id]
            self._newest.pop(update.id, None)
        else:
            self._newest[update.id] = update
        for process in list(watchers):
            self._processes.send_to(process, update)

    def kill(self, client: Sender, message: node.KillActor) -> None:
        """A process wants an actor of another node to end."""
        self._last += 1
        asked = node.KillActor(self._last, message.id, message.no_restart, message.reason, message.error)
        self._asked[self._last] = client.id, message.request, node_of(message.id), asked
        if not self._members.send(node_of(message.id), asked) and not self._members.is_there(node_of(message.id)):
            self.answered(node.Answer(self._last, False))

    def answered(self, message: node.Answer) -> None:
        """A keeper has carried out an order, or cannot."""
        asked = self._asked.pop(message.request, None)
        if asked is None:
            return
        process, request, _, _ = asked
        self._processes.send_to(process, node.Answer(request, message.ok, message.data, message.error))

    def ask_again(self, member: Member) -> None:
        """What was said to and by a node was lost, and it is there again: its actors live on."""
        for actor in self._watchers:
            if node_of(actor) == member.node and not is_directed(actor):
                member.send(node.WatchActor(actor))
        for _, _, keeper, asked in self._asked.values():
            if keeper == member.node:
                member.send(asked)

    def node_down(self, member: Member, reason: str) -> None:
        """A node is gone, and with it the actors that it kept."""
        for number in [number for number, asked in self._asked.items() if asked[2] == member.node]:
            self.answered(node.Answer(number, False))
        for actor in [actor for actor in self._watchers if node_of(actor) == member.node and not is_directed(actor)]:
            self._tell(_dead(actor, reason, member.title))

    def process_lost(self, process: bytes) -> None:
        """A process of this node has ended."""
        for actor, watchers in list(self._watchers.items()):
            watchers.discard(process)
            if not watchers:  # the keeper goes on telling, which costs a message for each change
                del self._watchers[actor]
                self._newest.pop(actor, None)


def _dead(actor: bytes, reason: str, title: str = "") -> node.ActorUpdate:
    """``title``: of its node, which is dead."""
    return node.ActorUpdate(actor, DEAD, 0, cause=node.ExitCause(reason=reason, node=title))
