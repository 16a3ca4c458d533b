"""What stands in for the collaborators of an owner's parts: no process, no thread, no socket."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from ray.messages import codec
from ray.protocol.references import ReferenceTable
from ray.protocol.resources import UNIT
from ray.runtime.interface import TaskOptions
from ray.runtime.owner.actor_calls import ActorCalls
from ray.runtime.owner.borrowing import Borrowing
from ray.runtime.owner.events import TaskEventLog
from ray.runtime.owner.handing_over import HandingOver
from ray.runtime.owner.here import Here
from ray.runtime.owner.leasing import Leasing
from ray.runtime.owner.outcomes import Outcomes
from ray.runtime.owner.records import Export, TaskRecord
from ray.runtime.owner.reports import Reports
from ray.runtime.owner.shortage import Shortage
from ray.runtime.owner.unreached_actors import UnreachedActors
from ray.runtime.owner.unreached_workers import UnreachedWorkers
from ray.runtime.process.peers import Again, Peer
from ray.runtime.process.timers import Timer
from ray.serialization import EMPTY_ARGS


class Clock:
    """Timers whose time the test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Timer]] = []
        self._order = count().__next__

    def after(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        self._due.append((self.now + delay_s, self._order(), timer))
        return timer

    soon = after

    def passes(self, seconds: float) -> None:
        """Run what is due within so many seconds, and what that leads to."""
        end = self.now + seconds
        while due := sorted(entry for entry in self._due if entry[0] <= end):
            self.now, _, timer = due[0]
            self._due.remove(due[0])
            if timer.callback is not None:
                timer.callback()
        self.now = end


class Wire:
    """A connection that keeps what is sent."""

    queued_bytes = 0
    context: Any = None

    def __init__(self) -> None:
        self.sent: list[Any] = []
        #: Those of the last message.
        self.frames: list[Any] = []

    def send(self, frames: Any) -> None:
        self.frames = list(frames)
        self.sent.append(codec.decode(frames))
        if isinstance(frames, list):
            frames[0] = None


class Peers:
    """Others, by their ids; those in ``away`` are not reached, as is known at once, and ``slow`` ones are dialled.

    Those in ``far`` are of another node.
    """

    def __init__(self) -> None:
        self.by_process: dict[bytes, Peer] = {}
        self.away: dict[str, ConnectionError] = {}
        self.slow: set[str] = set()
        self.far: set[str] = set()
        self.knows_far = False
        self.made = 0

    def at(self, address: str) -> Peer:
        """The one that was reached there."""
        return next(peer for peer in self.by_process.values() if peer.address == address)

    def reach(self, process: bytes, address: str) -> Peer:
        if address in self.away:
            raise self.away[address]
        if process not in self.by_process:
            self.made += 1
            connection: Any = Wire()
            peer = self.by_process[process] = Peer(connection, process, address, near=address not in self.far)
            peer.stands = address not in self.slow
        return self.by_process[process]

    def stand(
        self, process: bytes, address: str, key: object, again: Again, failure: ConnectionError | None
    ) -> Peer | None:
        if failure is not None:
            raise failure
        peer = self.reach(process, address)
        return None if self.on_decision(peer, key, again) else peer

    def on_decision(self, peer: Peer, key: object, again: Again) -> bool:
        if not peer.stands:
            peer.waiting[key] = again
        return not peer.stands

    def decide(self, address: str, error: ConnectionError | None = None) -> None:
        """A slow one is reached, or is not for this reason."""
        peer = self.at(address)
        peer.stands, peer.lost = error is None, error is not None
        if error is not None:
            del self.by_process[peer.process]
        waiting, peer.waiting = peer.waiting, {}
        for again in waiting.values():
            again(error)


class NothingAway:
    """Nothing is in the store of another node."""

    def let_go(self, entry: Any) -> None:
        """Nothing is to be freed there."""


class NoStore:
    """The values of a process without a store."""

    shared = False
    serves = False

    def __init__(self) -> None:
        self.discarded: list[bytes] = []
        self.away = NothingAway()

    def stored(self, entry: Any, nbytes: int) -> None:
        raise AssertionError("nothing is stored")

    def at_once(self, object_id: bytes) -> Any:
        raise AssertionError("nothing is stored")

    def at(self, entry: Any, receiver: Any) -> Any:
        """It is where the receiver looks, or goes to it."""

    def on_disk(self, object_id: bytes) -> None:
        """Nothing is."""

    def discard(self, ids: Any) -> None:
        self.discarded += ids


class NothingMoves:
    """Results stay where they have come."""

    def takes(self, data: Any) -> bool:
        return False

    def begin(self, entry: Any, data: Any, task: str) -> None:
        raise AssertionError("nothing moves")


class Owner:
    """The parts between a submission and its outcome, wired as in a process."""

    def __init__(self, values: Any = None, moving: Any = None) -> None:
        self.here = Here("session", b"process1", "")
        self.here.address = "me"
        self.table, self.clock, self.peers, self.values = ReferenceTable(), Clock(), Peers(), values or NoStore()
        #: What the node manager was told, and what was said to the user.
        self.told: list[Any] = []
        self.shown: list[str] = []
        timers: Any = self.clock
        peers: Any = self.peers
        tell = self.told.append
        self.reports = Reports(self.here, timers, tell, self.shown.append)
        self.borrowing = Borrowing(self.here, self.table, peers, self.reports, timers, None, lambda peer: None, None)
        events = TaskEventLog(timers, tell)
        self.outcomes = Outcomes(
            self.table, self.values, self.borrowing, self.reports, events, moving or NothingMoves(), []
        )
        handing = HandingOver(self.borrowing, self.outcomes, self.values.at_once, self.values.at)
        shortage = Shortage(timers, tell)
        self.leasing = Leasing(
            self.here,
            peers,
            timers,
            tell,
            self.outcomes,
            handing,
            UnreachedWorkers(self.here, peers, timers, tell, shortage, self.outcomes),
            lambda: True,
        )
        self.calls = ActorCalls(
            self.here,
            peers,
            timers,
            tell,
            self.outcomes,
            handing,
            UnreachedActors(shortage),
            lambda: True,
        )
        self._ids = count(1)
        self.export = Export(self.here, b"hash of the code", b"code", "f", [])
        self.options = TaskOptions(resources={"CPU": UNIT})

    def record(self, retries: int = 0) -> TaskRecord:
        """A task that nobody has submitted yet."""
        record = TaskRecord(
            self.here.process_id + next(self._ids).to_bytes(8, "big"), "f", EMPTY_ARGS, 1, retries, None
        )
        entry = self.table.own(record.id + bytes(4))
        entry.task = record
        record.entries = (entry,)
        return record

    def frames(self, address: str) -> list[Any]:
        """Those of the message that another process was sent last."""
        connection: Any = self.peers.at(address).connection
        return list(connection.frames)

    def submit(self, retries: int = 0) -> TaskRecord:
        record = self.record(retries)
        record.export = self.export
        cls = record.place = self.leasing.place(self.options)[1]
        self.leasing.enqueue(cls, record)
        return record

    def said(self, kind: type) -> list[Any]:
        """The messages of that type that the node manager was sent."""
        return [message for message in self.told if type(message) is kind]

    def sent(self, address: str, kind: type) -> list[Any]:
        """The same of another process."""
        connection: Any = self.peers.at(address).connection
        return [message for message in connection.sent if type(message) is kind]
