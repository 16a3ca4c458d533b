"""The lender's half: for a job whose directory is on its way nothing is lent, and the home asks again."""

from __future__ import annotations

from itertools import count
from typing import Any

from tests.owners import Clock

from ray.builtin.schedulers import HybridPolicy
from ray.messages import cluster
from ray.protocol.leases import Grant, LeaseTable, StartWorkers
from ray.protocol.resources import UNIT, NodeResources
from ray.runtime.cluster.lending import LeaseLending
from ray.runtime.process.timers import Timers
from ray.testing import eventually

ASKED = cluster.Borrow(7, {"CPU": UNIT}, 2, "00000001")
ROOM = cluster.Load({"CPU": 4 * UNIT})


class Home:
    """Another node manager."""

    id, job = b"node-a..", ""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def send(self, message: Any) -> None:
        self.heard.append(message)


class Processes:
    """Of the lender."""

    ready = False

    def __init__(self) -> None:
        self.killed: list[bytes] = []

    def kill(self, process: bytes, reason: str) -> None:
        self.killed.append(process)

    def serves(self, job: str) -> bool:
        return self.ready


def test_a_job_that_is_not_prepared() -> None:
    home, processes, timers, effects = Home(), Processes(), Timers(), []
    resources = NodeResources({"CPU": 4 * UNIT})
    table = LeaseTable(b"lender..", resources, HybridPolicy(), lambda: b"lease")
    lending = LeaseLending(table, processes, timers, lambda: [home], effects.extend)  # type: ignore[arg-type]

    def said() -> list[Any]:
        timers.run_due()
        heard, home.heard = home.heard, []
        return heard

    lending.greet()
    assert eventually(said) == [ROOM]
    lending.changed()
    lending.borrow(home, ASKED)
    assert home.heard == [cluster.Refuse(7, 2)]
    home.heard.clear()
    processes.ready = True
    lending.changed()  # nothing has, but that
    assert eventually(said, within_s=1) == [ROOM]
    lending.borrow(home, cluster.Borrow(8, {"CPU": UNIT}, 2, "00000001"))
    assert (home.heard, effects) == ([], [StartWorkers(2, "00000001")])


def granted(effects: list[Any]) -> list[bytes]:
    found = [effect.lease.id for effect in effects if isinstance(effect, Grant)]
    effects.clear()
    return found


def lender() -> tuple[LeaseLending, LeaseTable, Home, list[Any], Processes]:
    processes, effects, home, numbers = Processes(), [], Home(), count(1)  # type: ignore[var-annotated]
    processes.ready = True
    resources = NodeResources({"CPU": 4 * UNIT})
    table = LeaseTable(b"lender..", resources, HybridPolicy(), lambda: b"lease%d" % next(numbers))
    for number in range(3):
        table.worker_ready(b"worker %d" % number, "00000001")
    lending = LeaseLending(table, processes, Clock(), lambda: [home], effects.extend)  # type: ignore[arg-type]
    return lending, table, home, effects, processes


def test_a_question_that_comes_twice_is_answered_from_what_there_is() -> None:
    """What has been given back is not in the answer; where nothing is left, the node does not lend."""
    lending, table, home, effects, _ = lender()
    lending.borrow(home, ASKED)
    first, second = granted(effects)
    lending.borrow(home, ASKED)
    assert (granted(effects), home.heard) == ([first, second], [])
    table.release(first)
    lending.borrow(home, ASKED)
    assert (granted(effects), home.heard) == ([second], [cluster.Refuse(7, 1)])
    table.release(second)
    lending.borrow(home, ASKED)
    assert (granted(effects), home.heard[1:]) == ([], [cluster.Refuse(7, 2)])
    assert table.leases == {}


def test_what_the_home_does_not_name_ends_after_two_seconds() -> None:
    lending, table, home, effects, processes = lender()
    lending.borrow(home, ASKED)
    known, unknown = granted(effects)
    lending.meet(home)
    assert home.heard[0] == cluster.LeasesLent([known, unknown])
    lending.compare(home, cluster.LeasesHeld([known]))
    clock: Any = lending._timers
    clock.passes(1.9)
    assert processes.killed == []
    clock.passes(0.2)
    assert processes.killed == [table.leases[unknown].worker]


def test_a_home_that_ends_leaves_nothing_to_compare() -> None:
    homes: list[Home] = []
    home, clock = Home(), Clock()
    resources = NodeResources({"CPU": 4 * UNIT})
    table = LeaseTable(b"lender..", resources, HybridPolicy(), lambda: b"lease")
    lending = LeaseLending(table, Processes(), clock, lambda: homes, lambda effects: None)  # type: ignore[arg-type]
    homes.append(home)
    lending.meet(home)
    clock.passes(3.0)
    assert lending._compared.keys() == {home.id}, "its answer may take longer"
    homes.clear()
    clock.passes(3.0)
    assert lending._compared == {}
