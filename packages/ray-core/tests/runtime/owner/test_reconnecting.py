"""Two processes of different nodes over connections that are slow and break: nothing is lost, and nobody is."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ray.abc.transport import Connection, Frame
from ray.ids import node_bytes
from ray.messages import finding, node, wire
from ray.protocol.handshake import Membership
from ray.runtime.owner import reconnecting
from ray.runtime.owner.here import Here
from ray.runtime.owner.inbox import Inbox
from ray.runtime.owner.reconnecting import Reconnecting
from ray.runtime.process import resuming
from ray.runtime.process.peers import PeerTable
from ray.testing.breaking_wires import Wire
from ray.testing.virtual_time import VirtualClock

#: All is in order again so long after the last connection was cut.
HEALED_S = 5.0


class Process:
    """One that hears ``Forget``, and keeps what it was told."""

    def __init__(self, between: Between, number: int) -> None:
        self.between, self.number, self.lives = between, number, True
        here: Any = self
        self.here = Here("session", node_bytes(number) + b"proc", "")
        self.id = self.here.process_id
        self.peers = PeerTable(here, Membership("session", number), "worker", self.id)
        self.peers.address = str(number)
        self.reconnecting = Reconnecting(self.here, self.peers, here, here, self._lost)
        handlers: dict[type, Any] = {
            wire.Forget: lambda peer, message, frames: self.heard.extend(message.ids),
            wire.Got: self.reconnecting.on_got,
            wire.GoesOn: self.reconnecting.on_resumed,
            wire.Forgotten: self.reconnecting.on_forgotten,
        }
        self.inbox = Inbox(here, self.peers, here, self.reconnecting, handlers, {}, [], lambda: None)
        self.listeners = 0
        self.heard: list[bytes] = []
        self.lost: list[float] = []
        self.said = 0

    # --- as its parts see it: transport, timers, node manager, losses -------------------------------------------------

    def dial(self, address: str) -> Connection:
        return self.between.connect(self, self.between.ends[int(address)])

    def node_in(self, address: str) -> int:
        return int(address)

    def cut_off(self) -> None:
        """There is nothing to look at."""

    def after(self, delay_s: float, callback: Any) -> None:
        self.between.clock.after(delay_s, callback)

    def request_later(self, make: Any, told: Any) -> None:
        assert isinstance(make(1), finding.Lives)
        self.after(self.between.delay_s(), lambda: told(node.Answer(1, True)))

    def peer_lost(self, peer: Any) -> None:
        self._lost(peer)

    def _lost(self, peer: Any) -> None:
        self.lost.append(self.between.clock.now)
        self.peers.forget(peer)

    # --- what happens -------------------------------------------------------------------------------------------------

    def hears(self, connection: Wire, frames: Sequence[Frame]) -> None:
        self.inbox.pending.append((connection, frames))
        self.inbox.take()

    def loses(self, connection: Wire) -> None:
        self.inbox.pending.append((connection, None))
        self.inbox.take()

    def says(self) -> None:
        """Something to the other one."""
        other = self.between.ends[3 - self.number]
        self.peers.reach(other.id, str(other.number)).send(wire.Forget([b"%d" % self.said]))
        self.said += 1


class Between:
    """What lies between the two."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.clock = VirtualClock()
        self.most_delay_s = self.rng.choice([0.001, 0.05, 0.2])
        self.wires: list[Wire] = []
        self.ends = {number: Process(self, number) for number in (1, 2)}

    def delay_s(self) -> float:
        return self.rng.uniform(0.0, self.most_delay_s)

    def doubles(self) -> bool:
        return self.rng.random() < 0.1

    def connect(self, here: Process, there: Process) -> Wire:
        one, other = Wire(self, here), Wire(self, there)
        one.other, other.other = other, one
        self.wires.append(one)
        return one

    def cut(self, chosen: Wire) -> None:
        """A connection is reset: what is under way is lost, and both ends hear of it in a while."""
        chosen.breaks()
        chosen.other.breaks()

    def passes(self, seconds: float) -> None:
        self.clock.run(self.clock.now + seconds, most=100_000)

    def check_healed(self) -> None:
        """All that was said has come, once and in order."""
        self.passes(HEALED_S)
        for end in self.ends.values():
            assert not end.lost
            assert end.heard == [b"%d" % number for number in range(self.ends[3 - end.number].said)]
        for end in self.ends.values():
            end.says()
        self.passes(1.0)
        for end in self.ends.values():
            assert len(end.heard) == self.ends[3 - end.number].said
        assert sum(not each.closed for each in self.wires) <= 2


@contextlib.contextmanager
def time_of(clock: VirtualClock) -> Iterator[None]:
    """The parts go by that clock."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (reconnecting, resuming):
            patch.setattr(module, "monotonic", lambda: clock.now)
        yield


@pytest.mark.parametrize("lost_by", [1, 2])
@pytest.mark.parametrize("answers", [0, 1])
def test_both_dial_and_one_connection_dies_before_its_hello(lost_by: int, answers: int) -> None:
    """The end that has dialled that one hears of it; the other one has never heard of that connection."""
    between = Between(1)
    between.most_delay_s = 0.01
    with time_of(between.clock):
        for end in between.ends.values():
            end.says()
        first, second = between.wires
        between.cut(first if lost_by == 1 else second)
        for _ in range(answers):
            between.passes(0.015)
            between.ends[3 - lost_by].says()
        between.passes(1.5)
        assert [len(end.heard) for end in between.ends.values()] == [between.ends[2].said, between.ends[1].said]
        between.check_healed()


def test_an_end_that_gives_up_leaves_no_connection_that_the_other_one_relies_on() -> None:
    between = Between(1)
    between.most_delay_s = 0.01
    with time_of(between.clock):
        for end in between.ends.values():
            end.says()
        between.passes(0.1)
        gone = between.ends[1].peers.by_process[between.ends[2].id]
        gone.connection.abort()
        between.ends[1].peers.forget(gone)
        between.passes(1.5)
        assert between.ends[2].lost
        assert all(each.closed for each in between.wires)


def live(seed: int) -> None:
    between = Between(seed)
    rng = between.rng
    with time_of(between.clock):
        for _ in range(rng.randint(2, 30)):
            for end in rng.sample(list(between.ends.values()), rng.randint(0, 2)):
                end.says()
            if rng.random() < 0.5:
                between.passes(rng.choice([0.0, 0.001, 0.1, 1.0]))
            alive = [each for each in between.wires if not each.closed]
            if alive and rng.random() < 0.5:
                between.cut(rng.choice(alive))
            between.passes(rng.choice([0.0, 0.001, 0.1, 1.0]))
        between.check_healed()


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_lives(first: int) -> None:
    for seed in range(first, first + 100):
        try:
            live(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
