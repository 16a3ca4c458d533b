"""The lender's half: for a job whose directory is on its way nothing is lent, and the home asks again."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from tests.owners import Clock

from ray.abc.scheduler import ResourceRequest
from ray.builtin.schedulers import HybridPolicy
from ray.messages import cluster
from ray.protocol.leases import Grant, LeaseTable, RevokeLease, StartWorkers
from ray.protocol.offers import HOLD_S
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
    assert home.heard[0] == cluster.LeasesLent([known, unknown], 1)
    lending.compare(home, cluster.LeasesHeld([known], 1))
    clock: Any = lending._timers
    clock.passes(1.9)
    assert processes.killed == []
    clock.passes(0.2)
    assert processes.killed == [table.leases[unknown].worker]


def test_an_answer_to_an_earlier_list_ends_nothing_that_was_lent_since() -> None:
    """The connection was lost again before the home could answer, which hears all that was said by the next one."""
    lending, _, home, effects, processes = lender()
    lending.meet(home)
    lending.borrow(home, ASKED)
    lent = granted(effects)
    lending.meet(home)
    first, second = (each for each in home.heard if isinstance(each, cluster.LeasesLent))
    assert (first.leases, second.leases) == ([], lent)
    lending.compare(home, cluster.LeasesHeld([], first.number))
    lending.compare(home, cluster.LeasesHeld(lent, second.number))
    clock: Any = lending._timers
    clock.passes(3.0)
    assert processes.killed == []
    assert lending._compared == {}


def test_what_is_to_be_given_back_is_asked_for_again_where_that_word_may_be_lost() -> None:
    lending, table, home, effects, _ = lender()
    for number in range(2):
        lending.borrow(home, cluster.Borrow(number, {"CPU": UNIT}, 1, "00000001"))
    given, kept = [effect.lease for effect in effects if type(effect) is Grant]
    table.take_back(given)
    effects.clear()
    lending.meet(home)
    lending.compare(home, cluster.LeasesHeld([given.id, kept.id], 1))
    assert effects == [RevokeLease(given)]


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


def test_what_is_claimed_is_offered_to_the_home_that_has_claimed_it_and_then_to_all() -> None:
    lending, table, home, effects, _ = lender()
    clock: Any = lending._timers
    table.worker_ready(b"worker 3", "00000001")
    table.demand((b"node-b..", 1), ResourceRequest({"CPU": UNIT}), 4, job="00000001", on_loan=True)
    claim = cluster.Borrow(8, {"CPU": UNIT}, 1, "00000002", claims=True)
    lending.borrow(home, claim)
    assert home.heard == [cluster.Refuse(8, 1)], "at once"
    ((kind, lease),) = [(type(effect), effect.lease) for effect in effects]
    assert kind is RevokeLease
    lending.borrow(home, claim)
    assert len(effects) == 1, "it is asked once"
    table.release(lease.id)
    lending.changed()
    clock.passes(HOLD_S / 2)
    assert home.heard[2:] == [cluster.Offer("00000002", {"CPU": UNIT}), cluster.Load({"CPU": 0})]
    lending.borrow(home, cluster.Borrow(9, {"CPU": UNIT}, 1, "00000001"))
    assert home.heard[-1] == cluster.Refuse(9, 1), "it is not for another job"
    lending.borrow(home, claim)
    assert table.resources.available() == {"CPU": 0}, "what was asked before does not answer it"
    lending.borrow(home, cluster.Borrow(10, {"CPU": UNIT}, 1, "00000002"))
    assert effects[1:] == [StartWorkers(1, "00000002")]


@pytest.mark.parametrize("answers", [True, False])
def test_an_offer_that_nobody_wants_is_for_all(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    lending, table, home, effects, _ = lender()
    clock: Any = lending._timers
    monkeypatch.setattr("ray.runtime.cluster.lending.monotonic", lambda: clock.now)
    table.demand((b"node-b..", 1), ResourceRequest({"CPU": UNIT}), 3, job="00000001", on_loan=True)
    lending.borrow(home, cluster.Borrow(8, {"CPU": 2 * UNIT}, 1, "00000002", claims=True))
    table.release(effects[0].lease.id)
    lending.changed()
    assert table.resources.available() == {"CPU": 0}
    if answers:
        lending.borrow(home, cluster.Borrow(0, {"CPU": 2 * UNIT}, 0, "00000002"))
    else:
        clock.passes(HOLD_S)
    assert table.resources.available() == {"CPU": 2 * UNIT}
    lending.validate()


def test_nothing_is_held_for_a_home_that_is_gone() -> None:
    lending, table, home, effects, _ = lender()
    table.demand((b"node-b..", 1), ResourceRequest({"CPU": UNIT}), 3, job="00000001", on_loan=True)
    lending.borrow(home, cluster.Borrow(8, {"CPU": 2 * UNIT}, 1, "00000002", claims=True))
    table.release(effects[0].lease.id)
    lending._homes = list  # type: ignore[assignment]
    lending.changed()
    assert table.resources.available() == {"CPU": 2 * UNIT}
