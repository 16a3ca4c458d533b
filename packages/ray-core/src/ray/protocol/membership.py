"""Who belongs to a cluster, and who is dead: the director's verdicts, and what a node knows of its own standing.

A node proves that it lives by beats to the director. Its right to run counts from the *sending* of the last beat that
was answered; the director's patience counts from the *receipt* of the last beat. So a node that is cut off ends first,
whatever the delays are, and only then it is declared dead. A number that was declared dead never lives again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ray.messages.cluster import NodeRecord

BEAT_S = 0.5
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


@dataclass(slots=True)
class Member:
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

    def join(self, record: NodeRecord, now: float) -> str:
        """A node wants to be one of them; returns why it cannot, or an empty text: it is to be tried then."""
        number = record.number
        if number in self.members or number in self.dead or number <= self._highest - EARLIER:
            return f"its number, {number}, was given before; the highest is {self._highest}"
        same = [member.record for member in self.members.values() if member.record.name == record.name]
        if record.name and same:
            return f"there is a node of the name {record.name!r} already: number {same[0].number}"
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
        self.dead[number] = cause
        if len(self.dead) > MAX_DEAD:
            del self.dead[next(iter(self.dead))]
        return True

    def tick(self, now: float) -> list[int]:
        """Time has come so far; returns the nodes that are dead for their silence, which are declared so here."""
        late = 0.0 if self._looked is None else now - self._looked - BEAT_S
        self._looked = now
        if late > LATE_S:  # what they have said meanwhile is still to be heard
            for member in self.members.values():
                member.heard = max(member.heard, min(now, member.heard + late))
        silent = [number for number, member in self.members.items() if now - member.heard >= DEAD_S]
        for number in silent:
            self.declare_dead(number, f"it was not heard of for {DEAD_S:g} s")
        return silent

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
