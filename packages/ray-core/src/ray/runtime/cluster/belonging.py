"""A node's place in its cluster: it asks to be let in, proves that it lives, and ends when it must not go on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from ray.abc.control import ControlStore
from ray.clock import boottime
from ray.exceptions import RemoteProtocolError
from ray.ids import node_bytes, node_number
from ray.messages import cluster
from ray.messages.cluster import KeptDirector, NodeRecord
from ray.protocol.membership import BEAT_S, Following, Standing
from ray.runtime.cluster.absence import Absence
from ray.runtime.cluster.director import Director
from ray.runtime.cluster.lookout import Lookout
from ray.runtime.cluster.members import Member, Members
from ray.runtime.process.timers import Timers

#: A node that is not let in within this time ends.
JOIN_S = 8.0
#: One that cannot reach the director waits so long for another one, as where the head begins anew.
_PATIENCE_S = 4.0
_MAX_GONE = 100


class Life(Protocol):
    """What becomes of a node."""

    def joined(self) -> None:
        """It is one of the others."""

    def failed(self, reason: str) -> None:
        """It cannot go on."""

    def renewed(self, sent: float) -> None:
        """It may run, as far as what was proven at that time allows it."""


class Belonging:
    """Of one node manager."""

    def __init__(
        self,
        record: NodeRecord,
        known: KeptDirector,
        members: Members,
        control: ControlStore,
        timers: Timers,
        life: Life,
        director: Director | None = None,
    ) -> None:
        """The node does not belong to the others yet.

        Args:
            record: of this node.
            known: the node that lets others in, by the control store; this one, if it is to direct.
            members: the others.
            control: the state of record.
            timers: of this node manager.
            life: told what becomes of the node.
            director: if this node is to direct.
        """
        self._record = record
        self._following = Following(known)
        self._members = members
        self._timers = timers
        self._life = life
        self._lookout = Lookout(control, record.number, self)
        self._director = director
        self._is_in = False
        #: When this node has asked first to be let in: what it may rely on, that a director has heard, is not older.
        self._asked: float | None = None
        #: Why the node is not in yet.
        self._trouble = ""
        #: When a call to a director has first failed.
        self._refused: float | None = None
        #: Records of the other nodes that are alive.
        self.others: list[NodeRecord] = []
        #: Records of nodes that have died, the newest last.
        self.gone: list[NodeRecord] = []
        #: {number of a node that has died: why}
        self._dead: dict[int, str] = {}
        self._standing = Standing(boottime())

    def begin(self) -> None:
        """Ask to be let in, or be the first."""
        self._timers.after(JOIN_S, self._give_up)
        if self._director is not None:
            self._director.begin(self._join, self._life.failed)
        else:
            self._call_director()
            self._timers.after(BEAT_S, self._seek)

    def _give_up(self) -> None:
        if not self._is_in:
            what = "the control store has not let this node direct" if self._director else self._trouble
            what = what or f"the director at {self._place} cannot be reached: it has not let this node in"
            self._life.failed(f"{what} within {JOIN_S:g} s")

    @property
    def director_number(self) -> int:
        """Of the node that directs, as far as this one knows."""
        return self._following.record.number

    @property
    def hears_director(self) -> bool:
        """Whether the node that directs is this one, or has answered and is connected."""
        member = self._members.members.get(node_bytes(self._following.record.number))
        return self._director is not None or (member is not None and member.stands)

    @property
    def _place(self) -> str:
        return self._members.place_of(self._following.record)

    def _seek(self) -> None:
        """The director may have ended, and another one taken its place."""
        if self._is_in:
            return
        if self._refused_s > _PATIENCE_S:
            self._life.failed(self._trouble)
            return
        if not self._is_connected:
            self._lookout.look()
        self._timers.after(BEAT_S, self._seek)

    @property
    def _refused_s(self) -> float:
        """How long it is that a call to a director has first failed."""
        return 0.0 if self._refused is None else boottime() - self._refused

    def _join(self) -> None:
        if self._is_in:  # a new director has learned it from its own roster
            return
        self._is_in = True
        self._standing = Standing(boottime() if self._asked is None else self._asked)
        if self._director is not None:
            self.gone = self._director.gone[-_MAX_GONE:]
        self._life.joined()
        self._beat()

    @property
    def _is_connected(self) -> bool:
        """Whether there is a connection to the director, or is to be one."""
        return node_bytes(self._following.record.number) in self._members.members

    def _call_director(self) -> None:
        try:
            self._members.dial(self._following.record)
        except OSError as error:  # there is no descriptor for one more
            self._trouble = f"the director cannot be called: {error}"

    def awake(self) -> bool:
        """A turn of the loop begins: before anything is heard that has piled up, the clock is; False: all is over."""
        now = boottime()
        if self._director is not None:
            self._director.awake(now)
            return True
        if not self._is_in or not self._standing.is_over(now):
            return True
        self._life.failed(
            f"this machine was cut off from the cluster for {now - self._standing.proven:.1f} s: its node ends, as the "
            "others take it for dead"
        )
        return False

    def _beat(self) -> None:
        now = boottime()
        if self._director is not None:
            self._shown(now)
        else:
            if self._standing.is_quiet(now):
                if not self._is_connected:
                    self._call_director()
                self._lookout.look()
                self._lookout.prove()
            beat = cluster.Beat(self._standing.beat(now), self._following.version)
            self._members.say(node_bytes(self._following.record.number), beat)
        self._timers.about(BEAT_S, self._beat)

    def _shown(self, sent: float) -> None:
        self._standing.shown(sent)
        self._life.renewed(self._standing.proven)

    def _to_director(self, message: Any) -> None:
        self._members.send(node_bytes(self._following.record.number), message)

    # --- what the control store says ----------------------------------------------------------------------------------

    def found(self, kept: KeptDirector) -> None:
        """See ``Looking``."""
        is_new = self._following.found(kept)
        if is_new:
            self._refused = None
        if (is_new or not self._is_in) and not self._is_connected:  # else it is called with the next beat
            self._call_director()

    def shown(self, sent: float) -> None:
        """See ``Looking``."""
        self._shown(sent)

    def condemned(self, cause: str) -> None:
        """See ``Looking``."""
        silence_s = boottime() - self._standing.proven
        self._life.failed(
            f"this machine was cut off from the cluster for {silence_s:.1f} s and was declared dead: {cause}"
        )

    def absence(self, node: str) -> tuple[Absence, str]:
        """What is known of a node that is not there, by its number (8 hexadecimal digits) or name; why it has died."""
        if any(node in (record.name, record.node_id) for record in self.others):
            return Absence.JOINS, ""
        if re.fullmatch("[0-9a-f]{8}", node):
            cause = self._dead.get(int(node, 16))
            return (Absence.UNKNOWN, "") if cause is None else (Absence.OVER, cause)
        numbers = [record.number for record in self.gone if record.name == node]
        return Absence.AWAITED, self._dead.get(numbers[-1], "") if numbers else ""

    def title_of(self, number: int) -> str:
        """How messages name another node, which may be dead."""
        known = (record.title for record in reversed([*self.gone, *self.others]) if record.number == number)
        return next(known, f"{number:08x}")

    # --- what others say ----------------------------------------------------------------------------------------------

    def reached(self, member: Member) -> None:
        """Another node has answered this one's call."""
        if self._director is not None:
            self._director.reached(member)
        elif member.record.number == self._following.record.number:
            self._ask_in(member)

    def _ask_in(self, member: Member) -> None:
        if self._asked is None:
            self._asked = boottime()
        member.send(cluster.Join(self._record, self._following.term if self._is_in else 0))

    def lost(self, member: Member) -> None:
        """The connection to another node has ended, or was refused."""
        if self._director is not None:
            self._director.lost(member)
        elif member.record.number != self._following.record.number:
            self._to_director(cluster.SuspectNode(member.record.number))
        elif self._is_in:
            self._lookout.look()
        else:
            self._trouble = f"the director at {self._place} cannot be reached from this node"
            if self._refused is None:
                self._refused = boottime()

    def refused(self, reason: str) -> None:
        """The director does not let this node in."""
        self._life.failed(f"the cluster refuses this node: {reason}")

    def over(self, member: Member) -> None:
        """A node says that the cluster ends with it."""
        if member.record.number == self._following.record.number:
            self._life.failed("the cluster was stopped where its head is")

    def heard(self, member: Member, number: int) -> None:
        """A director has heard a beat."""
        if member.record.number == self._following.record.number:
            self._standing.answered(number)
            self._life.renewed(self._standing.proven)

    def take(self, director: NodeRecord, roster: cluster.Roster) -> dict[int, str] | None:
        """A director says which nodes there are; returns why others are dead, or None: it is not to be obeyed."""
        if not self._following.obeys(director, roster.term, roster.version):
            return None
        causes = dict(roster.dead)
        own = self._record.number
        if own in causes:
            self.condemned(causes[own])
        before = {record.number: record for record in self.others}
        self.others = [record for record in roster.alive if record.number != own]
        alive = {record.number for record in self.others}
        self.gone += [record for number, record in before.items() if number not in alive]
        del self.gone[:-_MAX_GONE]
        self._dead |= causes
        is_known = len(alive) < len(roster.alive)
        if not self._is_in and is_known:
            self._join()
        elif self._is_in and not is_known and own not in causes and self._director is None:
            self._to_director(cluster.Join(self._record, self._following.term))
        return causes

    def is_one(self, number: int) -> bool:
        """Whether that node is one of the others, as far as this one has heard."""
        return any(record.number == number for record in self.others)

    def admit(self, node: bytes) -> None:
        """Another node manager has connected.

        Raises:
            RemoteProtocolError: it was declared dead.
        """
        number = node_number(node)
        if number in self._dead:
            raise RemoteProtocolError(f"node {number:08x}, which was declared dead")
        if self._is_in and self._director is None and not self._is_connected:
            self._lookout.look()  # it may be the new director

    def leave(self, reason: str) -> None:
        """This node manager ends; ``reason`` is empty if it was asked to."""
        if self._director is None:
            if self._is_in:
                self._to_director(cluster.LeaveCluster(reason))
        elif not reason:
            self._director.end()

    def handlers(self) -> dict[type, Callable[[Any, Any], None]]:
        """What other node managers ask the director."""
        director = self._director
        if director is None:
            return {}
        return {
            cluster.Join: director.join,
            cluster.Beat: lambda client, message: director.beat(client, node_number(client.id), message),
            cluster.SuspectNode: lambda client, message: director.suspect(message.number),
            cluster.LeaveCluster: lambda client, message: director.leave(node_number(client.id), message.reason),
        }
