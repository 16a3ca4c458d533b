from __future__ import annotations

from typing import Any

import pytest

from ray.protocol.run_slot import CANCELLED, IN_FORCE, SLOT_BYTES, TIMED_OUT, RunSlot

RUNNING, WAITING = b"r" * 16, b"w" * 16


def make_slot() -> RunSlot:
    slot = RunSlot(memoryview(bytearray(SLOT_BYTES)))
    slot.memory[:16] = RUNNING
    return slot


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_what_is_revoked_does_not_start_and_all_else_does() -> None:
    slot = make_slot()
    assert slot.revoke_call(WAITING)
    assert slot.memory[IN_FORCE]
    assert not slot.may_start(WAITING)
    assert slot.may_start(RUNNING)
    assert slot.may_start(name(1))
    slot.forget_call(name(1))
    assert not slot.may_start(WAITING)
    slot.forget_call(WAITING)
    assert slot.may_start(WAITING)


def test_what_runs_is_not_revoked() -> None:
    slot = make_slot()
    assert not slot.revoke_call(RUNNING)
    assert not slot.memory[IN_FORCE]


def test_no_more_than_there_is_room_for() -> None:
    slot = make_slot()
    count = next(number for number in range(1, 1000) if not slot.revoke_call(name(number)))
    assert count > 50
    assert slot.revoke_call(name(1)), "it is there already"
    assert not slot.revoke_call(WAITING)
    assert slot.may_start(WAITING)
    slot.forget_call(name(7))
    assert slot.revoke_call(WAITING)
    assert [number for number in range(1, count) if slot.may_start(name(number))] == [7]
    assert (slot.running, slot.deadline, slot.has_heard) == (RUNNING, 0.0, False)


def test_a_revoked_call_is_no_recall() -> None:
    slot = make_slot()
    slot.revoke_call(WAITING)
    assert slot.handled(name(5)) is None


@pytest.mark.parametrize("reason", [CANCELLED, TIMED_OUT])
def test_one_of_the_two_interrupts_what_runs(reason: int) -> None:
    slot = make_slot()
    assert slot.order(reason, RUNNING)
    slot.heard(RUNNING)
    assert slot.is_ordered(RUNNING), "the node manager has signalled"
    slot = make_slot()
    slot.heard(RUNNING)
    assert not slot.order(reason, RUNNING)
    assert not slot.is_ordered(RUNNING), "the worker signals"


def test_the_node_manager_gives_way() -> None:
    """The worker hears of it after the node manager has looked, and before that has said what it does."""
    slot = make_slot()

    class Memory:
        def __getitem__(self, key: Any) -> Any:
            return slot.memory[key]

        def __setitem__(self, key: Any, value: Any) -> None:
            slot.memory[key] = value
            if value == RUNNING:
                slot.heard(RUNNING)
                assert slot.is_ordered(RUNNING), "the worker waits for what the node manager does"

    assert not RunSlot(Memory()).order(CANCELLED, RUNNING)  # type: ignore[arg-type]
    assert not slot.is_ordered(RUNNING), "so the worker signals"
    assert slot.take_order()[0] == 0


def test_a_new_attempt_has_been_told_nothing() -> None:
    slot = make_slot()
    slot.order(TIMED_OUT, RUNNING)
    slot.heard(RUNNING)
    slot.begin_anew()
    assert not slot.has_heard
    assert not slot.is_ordered(RUNNING)
