"""Room kept in the lease table for demands that have waited long."""

from __future__ import annotations

from itertools import count

import pytest

from ray.abc.scheduler import ResourceRequest
from ray.builtin.schedulers import HybridPolicy
from ray.protocol.keeping import PATIENCE_S
from ray.protocol.leases import Grant, LeaseTable, RevokeLease
from ray.protocol.resources import UNIT, NodeResources

NODE = b"node"
NARROW, WIDE = (b"a", 1), (b"b", 1)


def make(workers: int = 4, **total: float) -> LeaseTable:
    numbers = count(1)
    resources = NodeResources({name: round(amount * UNIT) for name, amount in total.items()})
    table = LeaseTable(NODE, resources, HybridPolicy(), lambda: b"lease%d" % next(numbers))
    for number in range(workers):
        table.worker_ready(b"w%d" % number)
    return table


def ask(depth: int = 0, priority: int = 0, **needs: float) -> ResourceRequest:
    return ResourceRequest({name: round(amount * UNIT) for name, amount in needs.items()}, depth, priority)


def holds(table: LeaseTable, key: tuple[bytes, int]) -> int:
    return sum(lease.key == key for lease in table.leases.values())


def turn_over(table: LeaseTable, narrow: ResourceRequest, key: tuple[bytes, int] = NARROW) -> None:
    """One of the narrow leases ends, and its owner has more to do."""
    lease = next(lease for lease in table.leases.values() if lease.key == key)
    table.demand(key, narrow, 5)
    table.release(lease.id)


def wait_long(table: LeaseTable) -> list[object]:
    return [*table.tick(0.0), *table.tick(PATIENCE_S / 2), *table.tick(PATIENCE_S)]


@pytest.mark.parametrize("wide", [ask(CPU=2), ask(CPU=1.5), ask(CPU=2, priority=100)], ids=["two", "1.5", "priority"])
@pytest.mark.parametrize("key", [WIDE, (b"a", 2), (NODE, 7)], ids=["another's", "the same owner's", "an actor"])
def test_a_stream_of_narrow_ones_makes_room_in_the_end(wide: ResourceRequest, key: tuple[bytes, int]) -> None:
    table = make(CPU=2)
    table.demand(NARROW, ask(CPU=1), 5)
    assert holds(table, NARROW) == 2
    table.demand(key, wide, 1)
    for _ in range(10):
        turn_over(table, ask(CPU=1))
    assert holds(table, key) == 0
    wait_long(table)
    turn_over(table, ask(CPU=1))
    assert (holds(table, NARROW), table.resources.available()) == (1, {"CPU": UNIT})
    turn_over(table, ask(CPU=1))
    assert (holds(table, NARROW), holds(table, key)) == (0, 1)
    assert not table.kept


def test_as_much_is_revoked_as_the_wide_one_needs() -> None:
    table = make(CPU=2)
    table.demand(NARROW, ask(CPU=1), 5)
    effects = table.demand(WIDE, ask(CPU=2), 1)
    effects += table.schedule()
    assert [type(effect) for effect in effects] == [RevokeLease], "one at a time at first"
    effects = wait_long(table)
    assert [type(effect) for effect in effects] == [RevokeLease]
    assert table.schedule() == []


def test_deeper_and_higher_ones_are_served_from_what_is_kept() -> None:
    table = make(CPU=2)
    table.demand(NARROW, ask(CPU=1), 2)
    table.demand(WIDE, ask(CPU=2), 1)
    wait_long(table)
    table.release(next(iter(table.leases)))
    assert table.kept
    assert Grant in map(type, table.demand((b"c", 1), ask(CPU=1, depth=1), 1))
    table.release(next(lease.id for lease in table.leases.values() if lease.key[0] == b"c"))
    assert Grant in map(type, table.demand((b"c", 2), ask(CPU=1, priority=1), 1))


def test_nothing_is_kept_for_who_waits_for_what_an_actor_has_for_life() -> None:
    table = make(CPU=2)
    table.demand((NODE, 1), ask(CPU=1), 1)
    table.demand(NARROW, ask(CPU=1), 5)
    table.demand(WIDE, ask(CPU=2), 1)
    wait_long(table)
    for _ in range(5):
        turn_over(table, ask(CPU=1))
        assert (holds(table, NARROW), table.kept) == (1, {})


def test_no_cpu_idles_until_something_else_is_free() -> None:
    table = make(CPU=2, GPU=1)
    table.demand((b"long", 1), ask(CPU=0.5, GPU=1), 1)
    table.demand(NARROW, ask(CPU=1), 5)
    table.demand(WIDE, ask(CPU=1, GPU=1), 1)
    wait_long(table)
    for _ in range(5):
        turn_over(table, ask(CPU=1))
        assert holds(table, NARROW) == 1
    table.release(next(lease.id for lease in table.leases.values() if lease.key[0] == b"long"))
    turn_over(table, ask(CPU=1))
    assert holds(table, WIDE) == 1


def test_what_is_infeasible_keeps_nothing() -> None:
    table = make(CPU=2)
    table.demand(NARROW, ask(CPU=1), 5)
    table.demand(WIDE, ask(CPU=3), 1)
    wait_long(table)
    turn_over(table, ask(CPU=1))
    assert (holds(table, NARROW), table.kept) == (2, {})


def test_what_is_withdrawn_keeps_nothing() -> None:
    table = make(CPU=2)
    table.demand(NARROW, ask(CPU=1), 5)
    table.demand(WIDE, ask(CPU=2), 1)
    wait_long(table)
    turn_over(table, ask(CPU=1))
    assert table.kept
    table.demand(WIDE, ask(CPU=2), 0)
    turn_over(table, ask(CPU=1))
    assert (holds(table, NARROW), table.kept) == (2, {})
