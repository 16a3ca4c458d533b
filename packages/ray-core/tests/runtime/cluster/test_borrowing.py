"""A home that waits for the node which a demand prefers: it looks again in time, and not for what is wanted no more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import ray.runtime.cluster.borrowing
from ray.abc.scheduler import ResourceRequest
from ray.builtin.schedulers import HybridPolicy
from ray.ids import node_bytes, node_manager_of
from ray.messages import cluster
from ray.protocol.leases import LeaseTable
from ray.protocol.lending import KEEP_S, LendingTable
from ray.protocol.resources import UNIT, NodeResources
from ray.runtime.cluster.borrowing import LeaseBorrowing
from ray.testing.virtual_time import VirtualClock

HOME, OTHER = node_bytes(1), node_bytes(2)
ONE = ResourceRequest({"CPU": UNIT})
JOB = "00000001"


class Made:
    """The part, and another node, which has no room."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.leases = LeaseTable(node_manager_of(HOME), NodeResources({"CPU": UNIT}), HybridPolicy(), lambda: b"lease")
        self.table = self.leases.others = LendingTable(HybridPolicy())
        self.table.node_up(OTHER, {"CPU": UNIT}, {})
        processes: Any = SimpleNamespace(serves=lambda job: True, config_of=lambda job: b"")
        self.said: list[Any] = []
        here: Any = self
        self.part = LeaseBorrowing(
            self.table, self.leases, here, processes, self, lambda effects: None, None, None  # type: ignore[arg-type]
        )  # fmt: skip

    def send(self, *message: Any) -> bool:
        self.said.append(message[-1])
        return True

    def after(self, delay_s: float, callback: Any) -> None:
        self.clock.after(delay_s, callback)

    def demand(self, owner: bytes, count: int, **more: Any) -> None:
        self.leases.demand((owner, 1), ONE, count, "f", JOB, **more)
        self.part.look()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    clock = VirtualClock()
    monkeypatch.setattr(ray.runtime.cluster.borrowing, "monotonic", lambda: clock.now)
    return Made(clock)


def test_nobody_looks_for_what_is_wanted_no_more(made: Made) -> None:
    owner = HOME + b"ownr"
    made.demand(owner, 1, prefer=OTHER)
    made.demand(owner, 0)
    made.demand(OTHER + b"home", 2, on_loan=True)  # waits here, and this home asks nobody for it
    made.clock.run(20 * KEEP_S, most=20)
    assert made.table.keeps_until() is None


def test_an_offer_is_asked_for_by_who_waits_or_not_wanted(made: Made) -> None:
    member: Any = SimpleNamespace(node=OTHER, send=made.send)
    offer = cluster.Offer(JOB, {"CPU": UNIT})
    made.part.offered(member, offer)
    assert made.said == [cluster.Borrow(0, {"CPU": UNIT}, 0, JOB)], "nobody waits"
    made.said.clear()
    made.demand(HOME + b"ownr", 3)
    made.part.offered(member, offer)
    assert [(message.count, message.claims) for message in made.said] == [(1, False)]


def test_a_home_claims_for_as_long_as_somebody_waits(made: Made) -> None:
    made.demand(HOME + b"ownr", 3)
    made.clock.run(3.0, most=20)
    claims = [message for message in made.said if isinstance(message, cluster.Borrow)]
    assert len(claims) >= 3
    assert all(claim.claims and claim.has_none and claim.count >= 1 for claim in claims)
    made.demand(HOME + b"ownr", 0)
    made.clock.run(10.0, most=20)
    assert [message for message in made.said if isinstance(message, cluster.Borrow)] == claims
