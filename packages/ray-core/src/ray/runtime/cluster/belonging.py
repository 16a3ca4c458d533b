"""A node's place in its cluster: it asks to be let in, proves that it lives, and ends when it must not go on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ray.clock import monotonic
from ray.exceptions import RemoteProtocolError
from ray.ids import node_bytes, node_number
from ray.messages import cluster
from ray.messages.cluster import NodeRecord
from ray.protocol.membership import BEAT_S, Standing
from ray.runtime.cluster.absence import Absence
from ray.runtime.cluster.director import Director
from ray.runtime.cluster.members import Member, Members
from ray.runtime.process.timers import Timers

#: A node that is not let in within this time ends.
JOIN_S = 8.0
_MAX_GONE = 100


class Belonging:
    """Of one node manager."""

    def __init__(
        self,
        record: NodeRecord,
        director: NodeRecord,
        members: Members,
        timers: Timers,
        on_joined: Callable[[], None],
        fail: Callable[[str], None],
        make_director: Callable[[], Director] | None = None,
    ) -> None:
        """The node does not belong to the others yet.

        Args:
            record: of this node.
            director: of the node that lets others in; may be this one.
            members: the others.
            timers: of this node manager.
            on_joined: told once when this node is one of them.
            fail: ends this node manager, for a reason.
            make_director: makes the director, if that is this node.
        """
        self._record = record
        self._director_record = director
        self._members = members
        self._timers = timers
        self._on_joined = on_joined
        self._fail = fail
        self._make_director = make_director
        self.director: Director | None = None
        self._is_in = False
        self._version = -1
        #: Records of the other nodes that are alive.
        self.others: list[NodeRecord] = []
        #: Records of nodes that have died, the newest last.
        self.gone: list[NodeRecord] = []
        #: {number of a node that has died: why}
        self._dead: dict[int, str] = {}
        self._standing = Standing(monotonic())

    @property
    def _is_director(self) -> bool:
        return self._record.number == self._director_record.number

    def begin(self) -> None:
        """Ask to be let in, or be the first."""
        if self._make_director is not None:
            self._join()
            self.director = self._make_director()
            return
        self._members.dial(self._director_record)
        self._timers.after(JOIN_S, self._give_up)

    def _give_up(self) -> None:
        if not self._is_in:
            place = self._members.place_of(self._director_record)
            self._fail(f"the director at {place} cannot be reached: it has not let this node in within {JOIN_S:g} s")

    def _join(self) -> None:
        self._is_in = True
        self._standing = Standing(monotonic())
        self._on_joined()
        if not self._is_director:
            self._beat()

    def _beat(self) -> None:
        now = monotonic()
        if self._standing.is_over(now):
            silence_s = now - self._standing.proven
            self._fail(
                f"this node was cut off from the cluster for {silence_s:.1f} s: it ends, as the others will take it "
                "for dead"
            )
            return
        self._to_director(cluster.Beat(self._standing.beat(now), self._version))
        self._timers.after(BEAT_S, self._beat)

    def _to_director(self, message: Any) -> None:
        number = self._director_record.number
        self._members.send(node_bytes(number), message)

    def absence(self, node: str) -> tuple[Absence, str]:
        """What is known of a node that is not there, by its number (8 hexadecimal digits) or name; why it has died."""
        if any(node in (record.name, f"{record.number:08x}") for record in self.others):
            return Absence.JOINS, ""
        if re.fullmatch("[0-9a-f]{8}", node):
            cause = self._dead.get(int(node, 16))
            return (Absence.UNKNOWN, "") if cause is None else (Absence.OVER, cause)
        numbers = [record.number for record in self.gone if record.name == node]
        return Absence.AWAITED, self._dead.get(numbers[-1], "") if numbers else ""

    # --- what others say ----------------------------------------------------------------------------------------------

    def reached(self, member: Member) -> None:
        """Another node has answered this one's call."""
        if self.director is not None:
            self.director.reached(member)
        elif not self._is_in and member.record.number == self._director_record.number:
            member.send(cluster.Join(self._record))

    def lost(self, member: Member) -> None:
        """The connection to another node has ended, or was refused."""
        if self.director is not None:
            self.director.lost(member)
        elif not self._is_in:
            self._fail(
                f"the director at {self._members.place_of(self._director_record)} cannot be reached from this node"
            )
        else:
            self._to_director(cluster.SuspectNode(member.record.number))

    def refused(self, reason: str) -> None:
        """The director does not let this node in."""
        if not self._is_in:
            self._fail(f"the cluster refuses this node: {reason}")

    def heard(self, number: int) -> None:
        """The director has heard a beat."""
        self._standing.answered(number)

    def take(self, roster: cluster.Roster) -> dict[int, str]:
        """The director says which nodes there are; returns why the dead ones are dead."""
        causes = dict(roster.dead)
        own = self._record.number
        if own in causes:
            self._fail(f"this node was declared dead: {causes[own]}")
        if roster.version < self._version:
            return causes
        self._version = roster.version
        before = {record.number: record for record in self.others}
        self.others = [record for record in roster.alive if record.number != own]
        alive = {record.number for record in self.others}
        self.gone += [record for number, record in before.items() if number not in alive]
        del self.gone[:-_MAX_GONE]
        self._dead |= causes
        if not self._is_in and own in {record.number for record in roster.alive}:
            self._join()
        return causes

    def admit(self, node: bytes) -> None:
        """Another node manager has connected.

        Raises:
            RemoteProtocolError: it was declared dead.
        """
        number = node_number(node)
        if number in self._dead:
            raise RemoteProtocolError(f"node {number}, which was declared dead")

    def leave(self, reason: str) -> None:
        """This node manager ends; ``reason`` is empty if it was asked to."""
        if self._is_in and self.director is None:
            self._to_director(cluster.LeaveCluster(reason))

    def handlers(self) -> dict[type, Callable[[Any, Any], None]]:
        """What other node managers ask the director."""
        director = self.director
        if director is None:
            return {}
        return {
            cluster.Join: director.join,
            cluster.Beat: lambda client, message: director.beat(client, node_number(client.id), message),
            cluster.SuspectNode: lambda client, message: director.suspect(message.number),
            cluster.LeaveCluster: lambda client, message: director.leave(node_number(client.id), message.reason),
        }
