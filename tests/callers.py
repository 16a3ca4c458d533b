"""What stands in for the shell around the table of calls: no process, no connection, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

from ray.messages.node import ActorUpdate
from ray.protocol import call_effects as effects
from ray.protocol.call_records import Callee
from ray.protocol.calls import CallTable
from ray.protocol.task_effects import After

PROCESS = b"process1"
AGAIN_S = 0.5


@dataclass(eq=False)
class Call:
    """A call that its caller has submitted."""

    id: bytes
    retries: int = 0
    method: bytes = b"method"
    parent: bytes | None = None
    waiting: int = 0
    attempt: int = 0
    done: bool = False
    cancelled: bool = False
    place: object = None

    @property
    def number(self) -> int:
        return int.from_bytes(self.id[len(PROCESS) :], "big")


class Caller:
    """Carries out what the table decides, and keeps what it has done."""

    def __init__(self) -> None:
        self.table: CallTable[Call] = CallTable(PROCESS)
        self.now = 0.0
        #: Pushes: (incarnation of the process, numbers of the calls).
        self.sent: list[tuple[int, list[int]]] = []
        #: {number of a call: what has become of it}; ``ends`` has all of that there is to know.
        self.fates: dict[int, str] = {}
        self.ends: list[Any] = []
        #: The rest, in order.
        self.told: list[Any] = []
        #: Incarnations that are not reached.
        self.away: set[int] = set()
        self._timers: list[tuple[float, int, Any]] = []
        self._next = count(1).__next__
        self._order = count().__next__

    # --- what happens -------------------------------------------------------------------------------------------------

    def actor(self, id: bytes = b"actor", *, concurrent: bool = False) -> Callee[Call]:
        callee: Callee[Call] = Callee(id, "Actor", concurrent)
        self.table.callees[id] = callee
        return callee

    def submit(self, callee: Callee[Call], **facts: Any) -> Call:
        call = Call(PROCESS + self._next().to_bytes(8, "big"), **facts)
        self.table.submit(callee, call)
        self.carry_out()
        return call

    def pump(self, callee: Callee[Call]) -> None:
        self.table.pump(callee)
        self.carry_out()

    def hears(self, callee: Callee[Call], state: str, incarnation: int = 0, **facts: Any) -> None:
        self.table.updated(ActorUpdate(callee.actor_id, state, incarnation, **facts), self.now)
        self.carry_out()

    def replied(self, callee: Callee[Call], *calls: Call, returned: Any = (), reason: str = "", exiting: bool = False):
        """These have ended, and those come back."""
        for call in calls:
            if callee.ended(call.id) is call and not call.done:
                self._ended(call, "ran")
        self.table.replied(callee, [call.id for call in returned], reason, exiting=exiting)
        self.carry_out()

    def loses(self, callee: Callee[Call]) -> None:
        """The connection."""
        callee.connected = False
        callee.batch = {}
        self.table.connection_lost(callee, self.now)
        self.carry_out()

    def passes(self, seconds: float) -> None:
        """So much time."""
        end = self.now + seconds
        while due := sorted(timer for timer in self._timers if timer[0] <= end):
            self._timers.remove(due[0])
            self.now = due[0][0]
            due[0][2](self.now)
            self.carry_out()
        self.now = end

    # --- what is done -------------------------------------------------------------------------------------------------

    def carry_out(self) -> None:
        out = self.table.out
        while out:
            effect: Any = out[0]
            match effect:
                case effects.Push(callee):
                    batch, callee.batch = callee.batch, {}
                    if batch:
                        assert callee.connected
                        assert callee.place is not None
                        self.push(callee, list(batch.values()))
                case effects.Connect(callee, update):
                    self._connect(callee, update)
                case After(delay_s, then) | effects.Soon(delay_s, then):
                    self._timers.append((self.now + delay_s, self._order(), then))
                case effects.End(call) | effects.Refuse(call) | effects.Cancel(call):
                    if not call.done:
                        fate = {effects.Refuse: "refused", effects.Cancel: "cancelled"}
                        self.ends.append(effect)
                        self._ended(call, fate.get(type(effect)) or effect.fate)
                case _:
                    self.told.append(effect)
            assert out[0] is effect
            out.popleft()
        self.table.validate()

    def push(self, callee: Callee[Call], calls: list[Call]) -> None:
        assert callee.place is not None
        self.sent.append((callee.place.incarnation, [call.number for call in calls]))

    def _connect(self, callee: Callee[Call], update: ActorUpdate) -> None:
        if not callee.is_to_connect(update):
            return
        if update.incarnation in self.away:
            away = self.table.unreached(callee, update, self.now)
            self.table.try_later(callee, away, AGAIN_S)
            return
        self.table.reached(callee, self.now)
        callee.connected = True
        self.connected(callee)
        self.table.pump(callee)

    def connected(self, callee: Callee[Call]) -> None:
        """There is a new connection."""

    def _ended(self, call: Call, fate: str) -> None:
        assert call.number not in self.fates, "a call has ended twice"
        call.done = True
        self.fates[call.number] = fate
