"""What is said of demands that no node can meet, when, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

import ray.runtime.node.unserved
from ray.abc.scheduler import NodeView, ResourceRequest
from ray.builtin.schedulers import HybridPolicy
from ray.ids import make_lease_ids
from ray.messages import node
from ray.messages.placement import LabelRule, Placement
from ray.protocol.leases import Infeasible, LeaseTable
from ray.protocol.lending import LendingTable
from ray.protocol.resources import UNIT, NodeResources
from ray.runtime.cluster.absence import Absence
from ray.runtime.node.infeasible import lack_of
from ray.runtime.node.unserved import NEW_NODE_S, UnservedDemands
from ray.testing.virtual_time import VirtualClock

OWN = b"\0\0\0\1"


class Part:
    """The part under test, and all that it sees of a node manager."""

    def __init__(self, *, alone: bool = False) -> None:
        self.clock = VirtualClock()
        name, resources = "" if alone else "head", NodeResources({"CPU": 2 * UNIT})
        self.leases = LeaseTable(OWN + bytes(4), resources, HybridPolicy(), make_lease_ids(OWN), name)
        self.lent = self.leases.others = LendingTable(HybridPolicy())
        self.fate: tuple[Absence, str] = (Absence.OVER, "")
        self.told: list[tuple[str, bool]] = []
        self.recorded: list[str] = []
        self.part = UnservedDemands(
            self.leases, lambda: self, self, self, self._tell, alone=alone  # type: ignore[arg-type, return-value]
        )  # fmt: skip

    def _tell(self, entry: Any, lack: str, fails: bool) -> None:
        self.told.append((lack, fails))
        if fails:
            self.leases.demand(entry.key, entry.request, 0)

    def record(self, job: str, record: node.ErrorRecord) -> None:
        self.recorded.append(record.message)

    def after(self, delay_s: float, callback: Any) -> None:
        self.clock.after(delay_s, callback)

    def could_serve(self, request: ResourceRequest, placement: Placement | None) -> bool:
        return self.lent.could_serve(request, placement)

    def views(self) -> list[NodeView]:
        return list(self.lent.nodes.values())

    def absence(self, name: str) -> tuple[Absence, str]:
        return self.fate

    def want(self, placement: Placement | None, key: int = 1, **needs: int) -> None:
        request = ResourceRequest({name: amount * UNIT for name, amount in needs.items()} or {"CPU": UNIT})
        for effect in self.leases.demand((OWN + b"ownr", key), request, 1, "f", placement=placement):
            if type(effect) is Infeasible:
                self.part.look_at(effect.entry)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Part:
    part = Part()
    monkeypatch.setattr(ray.runtime.node.unserved, "monotonic", lambda: part.clock.now)
    part.lent.node_up(b"\0\0\0\2", {"CPU": 4 * UNIT, "GPU": UNIT}, {"zone": "a"}, "second")
    return part


def test_what_another_node_can_serve_is_not_told(made: Part) -> None:
    made.want(None, CPU=4)
    made.want(Placement("second"), 2)
    made.want(Placement("00000002"), 3, GPU=1)
    assert made.told == made.recorded == []


def test_resources_that_no_node_has(made: Part) -> None:
    made.want(None, GPU=2)
    lack = (
        "needs {'GPU': 2.0}, which no node has (the most any node has is {'GPU': 1.0}; the nearest is second "
        "(00000002), with {'GPU': 1.0}): ask for less, or start a node that has as much: ray start --help"
    )
    assert made.told == [(lack, False)]
    assert made.recorded == [f"f {lack}. It waits until a node joins that has it."]
    made.part.look_at_all()
    assert len(made.told) == 1


def test_what_is_lacking_is_said_as_things_are(made: Part) -> None:
    made.fate = Absence.AWAITED, ""
    made.want(Placement("third"))
    (entry,) = made.leases.demands.values()
    assert made.part.lack(entry).endswith("there are head (00000001), second (00000002)")
    made.lent.node_down(b"\0\0\0\2")
    made.part.look_at_all()
    assert made.part.lack(entry).endswith("there is head (00000001)")
    assert len(made.told) == 1


def test_a_name_that_may_come(made: Part) -> None:
    made.fate = Absence.AWAITED, ""
    made.want(Placement("third"))
    lack = "is to run on the node third, which is not there; there are head (00000001), second (00000002)"
    assert made.told == [(lack, False)]
    made.fate = Absence.AWAITED, "it was not heard of for 9 s"
    made.want(Placement("fourth"), 2)
    assert "the node fourth, which has died: it was not heard of for 9 s; there are" in made.told[-1][0]
    made.want(Placement("secnd"), 4)
    assert made.told[-1][0].endswith("second (00000002); the name that comes nearest is second")
    made.want(Placement("second"), 3, GPU=2)
    assert made.told[-1] == (
        "is to run on the node second (00000002), which has {'GPU': 1.0} of the {'GPU': 2.0} that it needs",
        False,
    )


def test_a_number_that_never_comes(made: Part) -> None:
    made.fate = Absence.OVER, "it has left the cluster"
    made.want(Placement("00000003"))
    [(lack, fails)] = made.told
    assert "is to run on the node 00000003, which has died: it has left the cluster; there are head" in lack
    assert fails
    made.want(Placement("00000002"), 2, GPU=2)
    assert made.told[-1][1], "what a node has it has for ever"
    made.want(Placement("00000002", labels=(LabelRule("zone", ("b",)),)), 3)
    assert made.told[-1] == ("is to run on the node second (00000002), which has the label zone=a", True)
    assert made.recorded == []


def test_a_number_of_which_nothing_is_known_may_be_new(made: Part) -> None:
    made.fate = Absence.UNKNOWN, ""
    made.want(Placement("00000003"))
    made.want(Placement("00000004"), 2)
    made.clock.run(NEW_NODE_S / 2)
    assert made.told == []
    made.lent.node_up(b"\0\0\0\3", {"CPU": UNIT}, {})
    made.clock.run(NEW_NODE_S)
    [(lack, fails)] = made.told
    assert fails
    assert "the node 00000004, which is not there" in lack


def test_a_node_that_has_joined_is_waited_for(made: Part) -> None:
    made.fate = Absence.JOINS, ""
    made.want(Placement("00000003"))
    made.want(Placement("third"), 2)
    made.clock.run(10.0)
    assert made.told == []


def test_what_one_machine_says() -> None:
    part = Part(alone=True)
    part.want(Placement("third"))
    assert part.told == [("is to run on the node third, which is not there; there is 00000001", True)]
    part.want(None, 2, CPU=3)
    assert part.told[-1][0].endswith("more resources, as with ray.init(num_cpus=3)")
    assert part.recorded[-1].endswith("As it is, it waits for ever.")


def test_the_words_for_labels() -> None:
    here = NodeView(OWN, {"CPU": UNIT}, {}, labels={"zone": "a"}, name="head")
    wanted = {
        LabelRule("zone", ("b", "c")): "a node with the label zone=b or c, which no node has; the nearest is head (",
        LabelRule("kind", ("big",)): "the nearest is head (00000001), which has no label kind",
        LabelRule("zone", ("a",), True): "another label zone than a, which",
        LabelRule("zone", (None,)): "no label zone, which",
        LabelRule("kind", (None,), True): "a label kind, which",
    }  # fmt: skip
    for rule, text in wanted.items():
        assert text in lack_of({"CPU": UNIT}, Placement(labels=(rule,)), [here], alone=False)


def test_a_few_of_many_nodes_are_named() -> None:
    nodes = [NodeView(number.to_bytes(4, "big"), {}, {}, name=f"n{number}") for number in range(1, 12)]
    text = lack_of({}, Placement("nowhere"), nodes, alone=False)
    assert text.endswith("n7 (00000007), n8 (00000008) and 3 more")


def test_what_no_single_node_has_together() -> None:
    nodes = [NodeView(b"\0\0\0\1", {"CPU": 4 * UNIT}, {}), NodeView(b"\0\0\0\2", {"CPU": UNIT, "GPU": UNIT}, {})]
    text = lack_of({"CPU": 4 * UNIT, "GPU": UNIT}, None, nodes, alone=False)
    assert "(the nearest is 00000002, with {'CPU': 1.0, 'GPU': 1.0})" in text
