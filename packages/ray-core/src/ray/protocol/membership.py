"""Who belongs to a cluster, and who is dead: the director's verdicts, and what a node knows of its own standing.

A node proves that it lives by beats to the director. Its right to run counts from the *sending* of the last beat that
was answered; the director's patience counts from the *receipt* of the last beat. So a node that is cut off ends first,
whatever the delays are, and only then it is declared dead. A number that was declared dead never lives again.

A node that no director hears shows in the control store that it lives, if it can: that counts as an answered beat.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

from ray.abc.control_operations import Claim, Get, Operation
from ray.exceptions import ControlStoreError
from ray.messages.cluster import KeptDirector, KeptNode, NodeRecord

BEAT_S = 0.5
#: A node whose beats are not answered for so long looks for its director in the control store.
QUIET_S = 1.5
#: A node that was not heard of for so long gets no new leases.
SUSPECT_S = 3.0
#: A node that has had no answer for so long ends itself.
SELF_END_S = 7.0
#: A node that was not heard of for so long is dead.
DEAD_S = 9.0
#: A director that has itself not looked for so long knows nothing of the silence of others.
LATE_S = 1.0
#: Dead numbers that are remembered.
MAX_DEAD = 10_000

#: Nodes that join at the same time may come in another order than that of their numbers, by so many at most.
EARLIER = 1000

JOINING, ALIVE, DEAD = "joining", "alive", "dead"


class Member(msgspec.Struct):
    """A node, as the director sees it."""

    record: NodeRecord
    heard: float
    state: str = JOINING
    cause: str = ""


class Roster:
    """The director's table of the nodes of a cluster."""

    def __init__(self) -> None:
        #: {node number: member that is not dead}
        self.members: dict[int, Member] = {}
        #: {node number: why it is dead}, the newest last.
        self.dead: dict[int, str] = {}
        #: Grows with every change that others have to know of.
        self.version = 0
        self._highest = 0
        self._looked: float | None = None

    def recover(self, found: Iterable[KeptNode], now: float) -> list[NodeRecord]:
        """This is what an earlier director has left; returns the records of nodes that are dead."""
        dead: list[NodeRecord] = []
        for kept in found:
            number = kept.record.number
            self._highest = max(self._highest, number)
            if kept.state == DEAD:
                dead.append(kept.record)
                if self.members.pop(number, None) is not None:
                    self.version += 1
                self._bury(number, kept.cause)
            elif number not in self.members and number not in self.dead:
                self.members[number] = Member(kept.record, now, ALIVE)
                self.version += 1
        for member in self.members.values():
            member.heard = now
        return dead

    def join(self, record: NodeRecord, now: float, *, returns: bool = False) -> str:
        """A node wants to be one of them; returns why it cannot, or an empty text: it is to be tried then.

        Args:
            record: of the node.
            now: monotonic time in seconds.
            returns: it was one of them under another director, who has left no word of it.
        """
        number = record.number
        given = number in self.members or number in self.dead
        if given or (number <= self._highest - EARLIER and not returns):
            return f"its number, {number}, was given before; the highest is {self._highest}"
        same = [member.record for member in self.members.values() if member.record.name == record.name]
        if record.name and same:
            return f"there is a node of the name {record.name!r} already: NodeID {same[0].node_id}"
        self._highest = max(self._highest, number)
        self.members[number] = Member(record, now)
        return ""

    def admit(self, number: int, now: float) -> None:
        """The node was reached: it is alive."""
        member = self.members.get(number)
        if member is not None and member.state == JOINING:
            member.state, member.heard = ALIVE, now
            self.version += 1

    def beat(self, number: int, now: float) -> bool:
        """A node says that it lives; returns whether it may."""
        member = self.members.get(number)
        if member is None:
            return False
        member.heard = now
        return True

    def declare_dead(self, number: int, cause: str) -> bool:
        """There is proof of its end, or it leaves; returns whether that is new."""
        member = self.members.pop(number, None)
        if member is None:
            return False
        if member.state == ALIVE:
            self.version += 1
        self._bury(number, cause)
        return True

    def _bury(self, number: int, cause: str) -> None:
        self.dead[number] = cause
        if len(self.dead) > MAX_DEAD:
            del self.dead[next(iter(self.dead))]

    def tick(self, now: float) -> list[int]:
        """Time has come so far; returns the nodes that are silent for so long that they are to be declared dead."""
        late = 0.0 if self._looked is None else now - self._looked - BEAT_S
        self._looked = now
        if late > LATE_S:  # what they have said meanwhile is still to be heard
            for member in self.members.values():
                member.heard = max(member.heard, min(now, member.heard + late))
        return [number for number, member in self.members.items() if now - member.heard >= DEAD_S]

    def suspected(self, now: float) -> list[int]:
        """Nodes that were not heard of for long."""
        return [number for number, member in self.members.items() if now - member.heard >= SUSPECT_S]

    def alive(self) -> list[NodeRecord]:
        """Records of those that are alive, in the order of their numbers."""
        return [member.record for _, member in sorted(self.members.items()) if member.state == ALIVE]


class Standing:
    """A node's own right to run."""

    def __init__(self, now: float) -> None:
        #: Time of the sending of the newest beat that was answered.
        self.proven = now
        #: (number of the beat, time of its sending) of those that were not answered.
        self._sent: deque[tuple[int, float]] = deque()
        self._last = 0

    def beat(self, now: float) -> int:
        """A beat is sent; returns its number."""
        self._last += 1
        self._sent.append((self._last, now))
        return self._last

    def answered(self, number: int) -> None:
        """The director has heard the beat of that number."""
        while self._sent and self._sent[0][0] <= number:
            self.proven = max(self.proven, self._sent.popleft()[1])

    def is_over(self, now: float) -> bool:
        """Whether the node has to end: others may take it for dead soon."""
        return now - self.proven >= SELF_END_S

    def shown(self, sent: float) -> None:
        """The control store has taken what this node has sent at that time: it was not declared dead before."""
        self.proven = max(self.proven, sent)

    def is_quiet(self, now: float) -> bool:
        """Whether the director may have lost sight of this node."""
        return now - self.proven >= QUIET_S


class Following:
    """Whom a node obeys: of all directors that it has heard of, that with the highest term."""

    def __init__(self, kept: KeptDirector) -> None:
        self.record, self.term = kept.record, kept.term
        #: Of the newest roster of that director.
        self.version = -1

    def found(self, kept: KeptDirector) -> bool:
        """A director is heard of; returns whether it takes the place of the one before."""
        if kept.term <= self.term:
            return False
        self.record, self.term, self.version = kept.record, kept.term, -1
        return True

    def obeys(self, record: NodeRecord, term: int, version: int) -> bool:
        """Whether a roster of that node counts: not if a higher term is known, or a newer roster of the same."""
        self.found(KeptDirector(record, term))
        if term < self.term or version < self.version:
            return False
        self.version = version
        return True


class Proof:
    """A node shows in the control store that it lives, where no director hears it. One question is under way at most.

    It writes at its own key what it has found there, with a higher count. A director that would write there that the
    node is dead finds another value than it knows, and sees that it lives.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        #: What is at the key, as far as it is known.
        self._known: bytes | None = None
        self._wanted = b""
        self._is_asked = False
        self._sent = 0.0
        #: Why this node is dead; empty while it is not.
        self.verdict = ""
        self.is_dead = False

    @property
    def has_looked(self) -> bool:
        """Whether it is known what is at the key, so that the next question is one that proves something."""
        return self._known is not None

    def ask(self, now: float) -> Operation[Any] | None:
        """What to ask the store for, if anything; ``answered`` is to be told."""
        if self._is_asked or self.is_dead:
            return None
        self._is_asked, self._sent = True, now
        if self._known is None:
            return Get(self._key)
        kept = msgspec.msgpack.decode(self._known, type=KeptNode)
        self._wanted = msgspec.msgpack.encode(msgspec.structs.replace(kept, proofs=kept.proofs + 1))
        return Claim(self._key, self._known, self._wanted)

    def answered(self, answer: Any) -> float | None:
        """The answer to what was asked for last; returns the time from which on it proves that this node may run."""
        self._is_asked = False
        if self._known is not None:
            self._known = self._wanted if answer is True else None
            return self._sent if answer is True else None
        if answer is None or isinstance(answer, ControlStoreError):
            return None
        kept = msgspec.msgpack.decode(answer, type=KeptNode)
        if kept.state == DEAD:
            self.is_dead, self.verdict = True, kept.cause
        else:
            self._known = answer
        return None
