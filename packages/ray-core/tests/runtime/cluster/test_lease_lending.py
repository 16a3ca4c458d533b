"""The lender's half: for a job whose directory is on its way nothing is lent, and the home asks again."""

from __future__ import annotations

from typing import Any

from ray.builtin.schedulers import HybridPolicy
from ray.messages import cluster
from ray.protocol.leases import LeaseTable, StartWorkers
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
    lending.borrow(home, ASKED)
    assert (home.heard, effects) == ([], [StartWorkers(2, "00000001")])
