"""What waits at a node manager, by kind and with the reason."""

from __future__ import annotations

from ray.abc.scheduler import ResourceRequest
from ray.builtin.schedulers import HybridPolicy
from ray.ids import make_lease_ids
from ray.messages.cluster import DemandRow
from ray.protocol.leases import LeaseTable
from ray.protocol.resources import UNIT, NodeResources
from ray.runtime.node.own_demands import OwnDemands

OWN = b"\0\0\0\1"


def test_kinds_and_reasons() -> None:
    leases = LeaseTable(OWN + bytes(4), NodeResources({"CPU": 2 * UNIT}), HybridPolicy(), make_lease_ids(OWN), "head")
    part = OwnDemands(leases, lambda entry: "needs what nobody has")
    assert part.rows() == []
    cpu, tape = ResourceRequest({"CPU": UNIT}), ResourceRequest({"tape": UNIT})
    leases.demand((b"owner 1", 1), cpu, 3, "f", "00000001")
    leases.demand((b"owner 2", 1), cpu, 2, "f", "00000001")
    leases.demand((b"owner 2", 2), tape, 1, "g", "00000001")
    leases.demand((b"node 000", 3), cpu, 9, "h", "00000002", on_loan=True)
    leases.demands[b"owner 2", 2].told = True

    def of(name: str, needs: dict[str, int], count: int, reason: str) -> DemandRow:
        return DemandRow("00000001", "00000001", name, needs, count, reason)

    assert {(row.name, row.reason): row for row in part.rows()} == {
        ("f", "workers are starting for it"): of("f", {"CPU": UNIT}, 2, "workers are starting for it"),
        ("f", "what it needs is in use"): of("f", {"CPU": UNIT}, 3, "what it needs is in use"),
        ("g", "needs what nobody has"): of("g", {"tape": UNIT}, 1, "needs what nobody has"),
    }
