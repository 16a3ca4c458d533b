"""The director's shell: lets nodes in that it can reach, hears their beats, and says who is dead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ray.clock import monotonic
from ray.messages import cluster
from ray.messages.cluster import NodeRecord
from ray.protocol.membership import BEAT_S, Roster
from ray.runtime.cluster.members import Member, Members
from ray.runtime.cluster.peering import Sender
from ray.runtime.process.timers import Timers

#: A new node has to answer the director's call within this time.
DIAL_BACK_S = 2.0
#: A call that ends within this time was refused; one that takes longer says nothing.
REFUSED_S = 1.0
#: Of the dead, how many every node is told again.
_TOLD_DEAD = 100


class Facts(Protocol):
    """Where the state of record is kept."""

    def alive(self, record: NodeRecord) -> None:
        """A node is one of the cluster's."""

    def dead(self, record: NodeRecord, cause: str) -> None:
        """A node is dead, and its number never lives again."""


class Director:
    """Of a cluster: a role of one of its node managers, which is a member itself."""

    def __init__(
        self,
        record: NodeRecord,
        members: Members,
        facts: Facts,
        timers: Timers,
        clients: Callable[[], Iterable[Sender]],
        apply: Callable[[cluster.Roster], None],
    ) -> None:
        """The cluster has one node.

        Args:
            record: of this node.
            members: the other nodes, as this one knows them.
            facts: told of every verdict.
            timers: of this node manager.
            clients: the connections that other node managers have dialled.
            apply: takes every new roster, as other nodes do.
        """
        self._own = record.number
        self._record = record
        self._members = members
        self._facts = facts
        self._timers = timers
        self._clients = clients
        self._apply = apply
        self.roster = Roster()
        now = monotonic()
        self.roster.join(record, now)
        self.roster.admit(record.number, now)
        facts.alive(record)
        #: {node number: who has asked to join, and is called back}
        self._joining: dict[int, Sender] = {}
        timers.after(BEAT_S, self._tick)

    # --- joining ------------------------------------------------------------------------------------------------------

    def join(self, client: Sender, message: cluster.Join) -> None:
        """A node wants to be one of them: it is called back where it says that it is."""
        record = message.record
        reason = self.roster.join(record, monotonic())
        if reason:
            client.send(cluster.JoinRefused(reason))
            return
        self._joining[record.number] = client
        try:
            self._members.dial(record).is_joining = True
        except OSError as error:
            self._unreached(record, str(error))
            return
        self._timers.after(DIAL_BACK_S, lambda: self._unreached(record, f"no answer within {DIAL_BACK_S:g} s"))

    def reached(self, member: Member) -> None:
        """A node has answered the director's call."""
        if self._joining.pop(member.record.number, None) is None:
            return
        member.is_joining = False
        self.roster.admit(member.record.number, monotonic())
        self._facts.alive(member.record)
        self._announce()

    def _unreached(self, record: NodeRecord, why: str) -> None:
        client = self._joining.pop(record.number, None)
        if client is not None:
            self.roster.declare_dead(record.number, why)
            client.send(
                cluster.JoinRefused(
                    f"{self._members.place_of(record)} of this node cannot be reached from the director at "
                    f"{self._members.place_of(self._record)}: {why}. Open that port, or start with --port-range or "
                    "--host"
                )
            )
            self._announce()

    # --- verdicts -----------------------------------------------------------------------------------------------------

    def lost(self, member: Member) -> None:
        """The connection to a node has ended, or was refused."""
        number = member.record.number
        if number in self._joining:
            self._unreached(member.record, "the connection was refused")
        elif not member.stands and monotonic() - member.dialled < REFUSED_S:  # it was called again, in vain
            self.declare_dead(number, "its node manager has ended")

    def suspect(self, number: int) -> None:
        """Another node has lost its connection to one: the director's own is looked at, or dialled, by its members."""

    def leave(self, number: int, reason: str) -> None:
        """A node ends by its own will."""
        self.declare_dead(number, reason or "it was stopped")

    def declare_dead(self, number: int, cause: str) -> None:
        """There is proof of its end."""
        member = self.roster.members.get(number)
        if member is not None and number != self._own and self.roster.declare_dead(number, cause):
            self._facts.dead(member.record, cause)
            self._announce()

    def beat(self, client: Sender, number: int, message: cluster.Beat) -> None:
        """A node says that it lives; one that was declared dead gets no answer."""
        is_in = self.roster.beat(number, monotonic())
        if is_in:
            client.send(cluster.Heard(message.number))
        if not is_in or message.version != self.roster.version:  # what was said last may have been lost
            client.send(self._words())

    def _tick(self) -> None:
        now = monotonic()
        self.roster.beat(self._own, now)
        records = {number: member.record for number, member in self.roster.members.items()}
        silent = self.roster.tick(now)
        for number in silent:
            self._facts.dead(records[number], self.roster.dead[number])
        if silent:
            self._announce()
        self._timers.after(BEAT_S, self._tick)

    def _words(self) -> cluster.Roster:
        dead = list(self.roster.dead.items())[-_TOLD_DEAD:]
        return cluster.Roster(self.roster.version, self.roster.alive(), dead)

    def _announce(self) -> None:
        words = self._words()
        for client in self._clients():
            client.send(words)
        self._apply(words)
