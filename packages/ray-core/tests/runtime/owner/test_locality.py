"""Which class of work a task is of, by where its arguments are."""

from __future__ import annotations

from typing import Any

import pytest
from tests.owners import Owner

from ray.ids import node_number, node_of
from ray.messages import node
from ray.messages.placement import Placement
from ray.protocol.references import READY, ObjectEntry
from ray.protocol.resources import UNIT
from ray.protocol.task_records import SchedulingClass
from ray.runtime.interface import TaskOptions
from ray.runtime.owner.away import AWAY_BYTES
from ray.runtime.owner.locality import Locality

HOME, A, B = b"proc", b"noda", b"nodb"


class Process(Owner):
    """Its values are where the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[bytes, tuple[bytes, ...]] = {}
        values: Any = self
        self.serves = True
        self.locality = Locality(self.here, self.table, values, self.leasing.near)

    def nodes_of(self, entry: ObjectEntry) -> tuple[bytes, ...]:
        return self.at[entry.id]

    def value(self, nbytes: int, *nodes: bytes) -> ObjectEntry:
        entry = self.table.own(self.record().id + b"\0\0\0\1")
        self.table.fill_stored(entry, nbytes)
        self.at[entry.id] = nodes
        return entry

    def near(self, *arguments: ObjectEntry, **options: Any) -> bytes:
        """The node that a task with these arguments is to run on."""
        record = self.record()
        record.deps = list(enumerate(arguments))
        record.export = self.export
        base = record.place = self.leasing.place(TaskOptions(resources={"CPU": UNIT}, **options))[1]
        found = self.locality.nearest(base, record)
        assert record.place is found
        assert (found is base) == (not found.near)
        assert (found.resources, found.priority, found.placement) == (base.resources, base.priority, base.placement)
        return found.near


@pytest.fixture
def process() -> Process:
    made = Process()
    assert node_of(made.here.process_id) == HOME
    return made


def test_most_of_the_bytes_decide(process: Process) -> None:
    on_a, on_b, at_home = (process.value(AWAY_BYTES, node) for node in (A, B, HOME))
    assert process.near(on_a) == A
    assert process.near(on_a, on_b, process.value(1, B)) == B
    assert process.near(at_home) == HOME
    assert process.near(on_a, at_home) == b""
    assert process.near(process.value(AWAY_BYTES + 5, A), process.value(6, HOME)) == b""
    assert process.near(process.value(3 * AWAY_BYTES, A), on_b, at_home) == A
    assert process.near(on_a, on_a, at_home) == b"", "each counts once"


def test_a_copy_counts_as_much(process: Process) -> None:
    assert process.near(process.value(AWAY_BYTES, A, HOME)) == b""


def test_what_travels_in_messages_decides_nothing(process: Process) -> None:
    entry = process.table.own(process.record().id + b"\0\0\0\1")
    process.table.fill(entry, READY, bytes(2 * AWAY_BYTES))
    assert process.near(entry) == b""
    process.serves = False
    assert process.near(process.value(AWAY_BYTES, A)) == b""


def test_large_arguments_of_the_program_are_at_home(process: Process) -> None:
    record = process.record()
    packed = process.value(AWAY_BYTES, HOME)
    record.stored = packed.id
    base = process.leasing.place(process.options)[1]
    assert process.locality.nearest(base, record).near == HOME


@pytest.mark.parametrize(("placement", "near"), [
    (Placement(spread=True), b""), (Placement(node="x"), b""), (Placement(node="x", soft=True), A)
])  # fmt: skip
def test_where_the_program_says_where_that_counts(process: Process, placement: Placement, near: bytes) -> None:
    assert process.near(process.value(AWAY_BYTES, A), placement=placement) == near


def test_the_home_is_told(process: Process) -> None:
    record = process.record()
    record.deps, record.export = [(0, process.value(AWAY_BYTES, A))], process.export
    cls: SchedulingClass[Any] = process.locality.nearest(process.leasing.place(process.options)[1], record)
    process.leasing.enqueue(cls, record)
    (demand,) = process.said(node.Demand)
    assert demand.prefer == node_number(A)
