from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ray.protocol.run_slot import CANCELLED, SLOT_BYTES, TIMED_OUT, RunSlot
from ray.protocol.time_limits import END_S, INTERRUPT_S, TELL_S, Step, step

TASK, OTHER = b"t" * 16, b"o" * 16


def test_interrupted_then_told_of_then_ended() -> None:
    assert step(-1.0, heard=False) == Step(next_s=INTERRUPT_S)
    assert step(INTERRUPT_S, heard=False) == Step(interrupt=True, next_s=TELL_S)
    assert step(TELL_S, heard=False) == Step(tell=True, next_s=END_S)
    assert step(END_S, heard=False) == Step(tell=True, end=True)


def test_a_worker_that_has_heard_does_it_by_itself_but_is_ended_in_time() -> None:
    assert step(INTERRUPT_S, heard=True) == Step(next_s=TELL_S)
    assert step(TELL_S, heard=True) == Step(next_s=END_S)
    assert step(END_S, heard=True) == Step(tell=True, end=True)


@given(st.floats(-100, 100), st.booleans())
def test_looks_come_to_an_end(over_s: float, heard: bool) -> None:
    for _ in range(4):
        due = step(over_s, heard=heard)
        if due.next_s is None:
            assert due.end
            return
        assert due.next_s > over_s
        over_s = due.next_s
    raise AssertionError("it looks for ever")


def make_slot() -> RunSlot:
    return RunSlot(memoryview(bytearray(SLOT_BYTES)))


def test_an_order_is_for_the_task_that_runs_and_taken_once() -> None:
    slot = make_slot()
    assert not slot.order(CANCELLED, TASK)
    slot.memory[:16] = TASK
    assert slot.order(TIMED_OUT, TASK)
    assert slot.take_order() == (TIMED_OUT, TASK)
    assert slot.take_order()[0] == 0
    slot.heard(TASK)
    assert slot.has_heard
    assert not slot.order(CANCELLED, TASK)
    slot.memory[:16] = OTHER
    assert not slot.has_heard


def test_fields_do_not_touch_each_other() -> None:
    slot = make_slot()
    slot.memory[:16] = TASK
    slot.deadline = 12.5
    slot.order(CANCELLED, TASK)
    slot.heard(OTHER)
    assert slot.revoke(OTHER) == TASK
    assert (slot.running, slot.deadline, slot.take_order()) == (TASK, 12.5, (CANCELLED, TASK))
    assert slot.may_start(TASK)
    slot.deadline = 0.0
    slot.settled()
    assert not slot.deadline
    assert slot.may_start(OTHER)
