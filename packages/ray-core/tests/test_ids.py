"""Ids name the node and the process that they are of, and none is given twice."""

from __future__ import annotations

import pytest

from ray import ids
from ray.ids import ProcessIds

NODE = b"\x80\x00\x00\x07"
LAST = (1 << 32) - 1


def number(process: bytes) -> int:
    return int.from_bytes(process[4:], "big")


def test_numbers_of_embedded_nodes_are_from_the_upper_half() -> None:
    numbers = {int.from_bytes(ids.embedded_node(), "big") for _ in range(1_000)}
    assert len(numbers) > 990  # of two thousand million
    assert all(1 << 31 <= each < 1 << 32 for each in numbers)
    assert min(numbers) < 0xA000_0000
    assert max(numbers) > 0xE000_0000


def test_process_ids_are_the_node_and_a_number_that_follows() -> None:
    process_ids = ProcessIds(NODE, 41)
    given = [process_ids.give() for _ in range(3)]
    assert given == [NODE + bytes((0, 0, 0, last)) for last in (41, 42, 43)]
    assert {len(each) for each in given} == {ids.PROCESS_ID_BYTES}


def test_first_process_has_a_random_number() -> None:
    assert len({ProcessIds(NODE).give() for _ in range(100)}) > 95


def test_numbers_go_on_at_the_smallest_behind_the_largest() -> None:
    """0 is the node manager's."""
    process_ids = ProcessIds(NODE, LAST - 1)
    assert [number(process_ids.give()) for _ in range(4)] == [LAST - 1, LAST, 1, 2]
    assert number(ids.node_manager_of(NODE)) == 0


@pytest.mark.parametrize("first", [1, 5, 14, None])
def test_no_number_is_given_twice(first: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_NUMBERS", 16)
    process_ids = ProcessIds(NODE, first)
    given = [number(process_ids.give()) for _ in range(15)]
    assert sorted(given) == list(range(1, 16))
    for _ in range(2):
        with pytest.raises(OverflowError, match="as many processes"):
            process_ids.give()


def test_every_id_names_its_node_and_its_process() -> None:
    process = ProcessIds(NODE).give()
    task = ids.make_task_ids(process)()
    made = ids.object_id(task, 3)
    lease = ids.make_lease_ids(NODE)()
    assert {ids.node_of(id) for id in (process, task, made, lease, ids.node_manager_of(NODE))} == {NODE}
    assert {ids.process_of(id) for id in (process, task, made)} == {process}
    assert ids.task_of(made) == task
    assert task[8] == 0  # kept free for flags


def test_lease_ids_differ() -> None:
    give = ids.make_lease_ids(NODE)
    assert len({give() for _ in range(1_000)}) == 1_000


def test_each_edition_of_an_object_has_a_key_of_its_own() -> None:
    made = ids.object_id(ids.make_task_ids(NODE + b"\0\0\0\1")(), 3)
    assert ids.stored_id(made, 0) == made
    keys = [ids.stored_id(made, edition) for edition in range(ids.MAX_EDITION + 1)]
    assert len(set(keys)) == len(keys)
    assert {ids.object_of(key) for key in keys} == {made}
    assert {ids.process_of(key) for key in keys} == {NODE + b"\0\0\0\1"}


def test_no_attempt_has_the_edition_of_the_owners_node() -> None:
    editions = [ids.edition_of(attempt) for attempt in range(600)]
    assert min(editions) == 1
    assert max(editions) == ids.MAX_EDITION
    assert editions[:3] == [1, 2, 3]


def test_a_node_is_named_by_all_that_users_know_of_it() -> None:
    process = ids.node_bytes(42) + b"proc"
    assert ids.node_title(process) == ids.node_title(process, "", "10.0.0.7") == "0000002a"
    assert ids.node_title(process, "second", "10.0.0.7") == "second (at 10.0.0.7, NodeID 0000002a)"
    assert ids.node_title(process, "second") == "second (NodeID 0000002a)"
