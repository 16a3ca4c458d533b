"""The embedded control store beyond its contract: its clock, its end, and the box that its answers lie in."""

from __future__ import annotations

import gc
import math
import os
import select
import threading
from typing import Any

import pytest

from ray.abc.answer_box import AnswerBox, Subscription
from ray.abc.blocking_control import BlockingControl
from ray.abc.control_operations import (
    Append,
    Claim,
    Expire,
    Get,
    Incr,
    Keys,
    Operation,
    Put,
    StreamAppend,
    StreamRead,
    Ttl,
)
from ray.builtin.embedded_control import EmbeddedControlServer, EmbeddedControlStore
from ray.builtin.embedded_state import EmbeddedState
from ray.exceptions import (
    ControlKindError,
    ControlStoreError,
    ControlTimeoutError,
    ControlUnavailableError,
    RayConnectionError,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# --- the state --------------------------------------------------------------------------------------------------------


def test_times_go_by_the_clock_that_is_given(clock: Clock) -> None:
    state = EmbeddedState(clock)
    state.do(Put("a", b"1", ttl_s=5.0))
    state.do(Put("b", b"1", ttl_s=1.0))
    clock.now = 4.0
    assert state.do(Ttl("a")) == (1.0, False)
    assert state.do(Keys("")) == (["a"], False)
    clock.now = 5.0
    assert state.do(Get("a")) == (None, False)


def test_a_time_that_is_renewed_counts_from_then(clock: Clock) -> None:
    state = EmbeddedState(clock)
    for now in range(10):
        clock.now = float(now)
        state.do(Claim("director", None if not now else b"me", b"me", ttl_s=5.0))
    clock.now = 13.9
    assert state.do(Get("director"))[0] == b"me"
    clock.now = 14.0
    assert state.do(Get("director"))[0] is None


def test_nothing_is_kept_of_keys_whose_time_is_over(clock: Clock) -> None:
    state = EmbeddedState(clock)
    for number in range(100):
        state.do(Put(f"key {number}", b"x", ttl_s=1.0))
    clock.now = 2.0
    state.do(Get("other"))
    assert not state._held
    assert not state._ends
    assert not state._due


def test_an_operation_tells_whether_it_changed_something(clock: Clock) -> None:
    state = EmbeddedState(clock)
    steps: list[tuple[Operation[Any], bool]] = [
        (Put("a", b"1"), True),
        (Put("a", b"1", overwrite=False), False),
        (Claim("a", b"2", b"3"), False),
        (Claim("a", b"1", b"3"), True),
        (Get("a"), False),
        (Incr("a"), True),
        (Append("a", b"x"), False),
        (Expire("a", 1.0), False),
    ]
    assert [state.do(op)[1] for op, _ in steps] == [changed for _, changed in steps]


class Strange(Operation[None], frozen=True):
    pass


def test_what_it_does_not_know_is_an_answer(clock: Clock) -> None:
    answer, changed = EmbeddedState(clock).do(Strange("a"))
    assert type(answer) is ControlStoreError
    assert "Strange" in str(answer)
    assert not changed
    assert type(EmbeddedState(clock).do(StreamRead("a", "no id"))[0]) is ControlStoreError


def test_an_error_keeps_nothing_of_the_store(clock: Clock) -> None:
    state = EmbeddedState(clock)
    state.do(Append("a", b"x"))
    answer = state.do(Get("a"))[0]
    assert isinstance(answer, ControlKindError)
    assert answer.__traceback__ is None
    assert str(answer) == "Get('a') of the control store failed: the key holds a list, not a value."


@pytest.mark.parametrize(
    "make",
    [
        lambda: Put("a", b"", ttl_s=0.0),
        lambda: Claim("a", None, b"", ttl_s=-1.0),
        lambda: Expire("a", math.nan),
        lambda: Append("a", b"", max_items=0),
        lambda: StreamAppend("a", b"", max_items=-1),
        lambda: StreamRead("a", max_items=0),
    ],
)
def test_operations_that_make_no_sense_cannot_be_made(make: Any) -> None:
    with pytest.raises(ValueError, match=r"ttl_s|max_items"):
        make()


# --- the box ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def box(clock: Clock) -> Any:
    box = AnswerBox(clock)
    yield box
    box.close()


def readable(box: AnswerBox) -> bool:
    return bool(select.select([box.fileno()], [], [], 0)[0])


def test_answers_are_called_in_deliver_once(box: AnswerBox) -> None:
    answers: list[Any] = []
    number = box.owe(Get("a"), answers.append, 1.0)
    assert box.owes(number)
    assert not readable(box)
    threading.Thread(target=box.settle, args=(number, b"x")).start()
    assert select.select([box.fileno()], [], [], 5)[0]
    box.settle(number, b"y")
    assert answers == []
    assert not box.owes(number)
    box.deliver()
    assert answers == [b"x"]
    assert not readable(box)


def test_times_that_are_over_are_told(box: AnswerBox, clock: Clock) -> None:
    answers: list[Any] = []
    late = box.owe(Get("late"), answers.append, 1.0)
    other = box.owe(Get("other"), answers.append, 3.0)
    assert box.expire() == 1.0
    clock.now = 1.0
    assert box.expire() == 2.0
    assert not box.owes(late)
    box.settle(late, b"x")
    box.settle(other, b"y")
    assert box.expire() is None
    box.deliver()
    assert [type(answer) for answer in answers] == [ControlTimeoutError, bytes]
    assert (answers[0].operation, answers[0].key, answers[0].timeout_s) == ("Get", "late", 1.0)


def test_hints_of_one_kind_are_merged_until_they_are_delivered(box: AnswerBox) -> None:
    seen: list[str] = []
    subscription = Subscription("", seen.append)
    for _ in range(1000):
        box.hint(subscription, "a")
    box.hint(subscription, "b")
    assert len(box._ready) == 2
    box.deliver()
    assert seen == ["a", "b"]
    box.hint(subscription, "a")
    box.deliver()
    assert seen == ["a", "b", "a"]


def test_what_changes_while_a_hint_is_taken_is_hinted_again(box: AnswerBox) -> None:
    seen: list[str] = []

    def on_change(key: str) -> None:
        seen.append(key)
        if len(seen) == 1:
            box.hint(subscription, key)

    subscription = Subscription("", on_change)
    box.hint(subscription, "a")
    box.deliver()
    assert seen == ["a"]
    assert readable(box)
    box.deliver()
    assert seen == ["a", "a"]


def test_a_subscription_that_has_ended_is_not_told(box: AnswerBox) -> None:
    seen: list[str] = []
    subscription = Subscription("", seen.append)
    box.hint(subscription, "a")
    subscription.ended = True
    box.deliver()
    box.hint(subscription, "a")
    box.deliver()
    assert seen == []


def test_the_rest_is_delivered_after_a_ctrl_c(box: AnswerBox) -> None:
    answers: list[Any] = []

    def interrupted(answer: object) -> None:
        raise KeyboardInterrupt

    for on_answer in (interrupted, answers.append):
        box.settle(box.owe(Get("a"), on_answer, 1.0), b"x")
    with pytest.raises(KeyboardInterrupt):
        box.deliver()
    assert readable(box)
    box.deliver()
    assert answers == [b"x"]


def test_close_answers_all_and_lets_go(box: AnswerBox) -> None:
    before = len(os.listdir("/proc/self/fd"))
    answers: list[Any] = []
    done = box.owe(Get("a"), answers.append, 1.0)
    box.owe(Get("b"), answers.append, 1.0)
    box.settle(done, b"x")
    box.close()
    assert answers[0] == b"x"
    assert type(answers[1]) is ControlUnavailableError
    assert len(os.listdir("/proc/self/fd")) == before - 1
    box.settle(done, b"y")
    box.hint(Subscription("", answers.append), "a")  # type: ignore[arg-type]
    box.close()
    assert len(answers) == 2


def test_a_pipe_serves_where_there_is_no_eventfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "eventfd")
    before = len(os.listdir("/proc/self/fd"))
    box = AnswerBox()
    answers: list[Any] = []
    for number in range(70_000):  # more than the pipe takes
        box.settle(box.owe(Get("a"), answers.append, 1.0), number)
    while readable(box):
        box.deliver()
    assert answers == list(range(70_000))
    box.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_finaliser_may_ask_in_the_middle_of_an_answer(box: AnswerBox) -> None:
    answers: list[Any] = []

    class Asks:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            box.settle(box.owe(Get("inner"), answers.append, 1.0), b"inner")

    Asks()
    with box._lock:
        gc.collect()
    box.deliver()
    assert answers == [b"inner"]


# --- handles ----------------------------------------------------------------------------------------------------------


def test_the_end_of_the_server_is_an_answer() -> None:
    server = EmbeddedControlServer()
    control = EmbeddedControlStore(server.address)
    server.close()
    with pytest.raises(ControlUnavailableError, match="has ended"):
        BlockingControl(control).ask(Get("a"))
    control.close()
    with pytest.raises(RayConnectionError):
        EmbeddedControlStore(server.address)


class Mute(EmbeddedControlStore):
    """Breaks its promise that each operation has an end."""

    def deliver(self) -> None:
        pass


def test_a_wait_ends_whatever_the_store_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.abc.blocking_control._GRACE_S", 0.1)
    server = EmbeddedControlServer()
    control = Mute(server.address)
    with pytest.raises(ControlTimeoutError, match=r"within 0\.1 s"):
        BlockingControl(control).ask(Get("a"), timeout_s=0.1)
    control.close()
    server.close()
