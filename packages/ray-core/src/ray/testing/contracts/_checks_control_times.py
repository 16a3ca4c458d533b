"""What every control store must do with the times of keys, and with hints. Checks raise ``ContractViolationError``."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

from ray.abc.control_operations import Append, Claim, Delete, Expire, Get, Incr, Operation, Put, StreamAppend, Ttl
from ray.clock import monotonic, sleep
from ray.testing.contracts._asking import Check, ControlSubject, answer_to, answers_to, expect_answer
from ray.testing.contracts._expect import eventually, expect, expect_equal

_TTL_S = 0.2
#: Stores may count in milliseconds.
_ROUNDING_S = 0.002


def keys_end_with_their_time(subject: ControlSubject) -> None:
    control = subject.control
    start = monotonic()
    for op in (Put("put", b"1", ttl_s=_TTL_S), Claim("claim", None, b"1", _TTL_S)):
        expect_answer(control, op, True, "a key may have a time")
    answer_to(control, Append("list", b"1"))
    expect_answer(control, Expire("list", _TTL_S), True, "expire tells that the key holds something")
    expect_answer(control, Expire("missing", _TTL_S), False, "expire tells that the key is free")
    ends: dict[str, float] = {}

    def gone() -> bool:
        for key in {"put", "claim", "list"} - ends.keys():
            if answer_to(control, Put(key, b"2", False)) is True:
                ends[key] = monotonic() - start
        return len(ends) == 3

    eventually(gone, "a key is free once its time is over")
    expect(min(ends.values()) > _TTL_S - _ROUNDING_S, f"a key has its time: {ends} of {_TTL_S} s")
    expect_answer(control, Ttl("put"), math.inf, "what is put after the time was over has none")


def the_time_that_is_left_is_told(subject: ControlSubject) -> None:
    control = subject.control
    answer_to(control, Put("a", b"1", ttl_s=50.0))
    left_s = answer_to(control, Ttl("a"))
    expect(isinstance(left_s, float) and 30.0 < left_s <= 50.0, f"the time that a key has left is told: {left_s!r}")
    expect_answer(control, Ttl("missing"), None, "a free key has no time")
    answer_to(control, Put("for good", b"1"))
    expect_answer(control, Ttl("for good"), math.inf, "what is put without a time stays for good")
    answer_to(control, Expire("for good", 50.0))
    expect(answer_to(control, Ttl("for good")) != math.inf, "expire gives a time")
    answer_to(control, Expire("for good", None))
    expect_answer(control, Ttl("for good"), math.inf, "expire takes a time away")


def what_replaces_a_value_replaces_its_time(subject: ControlSubject) -> None:
    control = subject.control
    steps: list[tuple[str, Operation[Any]]] = [
        ("a put", Put("a", b"1")),
        ("a claim", Claim("a", b"1", b"2")),
        ("a claim that leaves the value as it is", Claim("a", b"1", b"1")),
    ]
    for name, op in steps:
        answer_to(control, Put("a", b"1", ttl_s=50.0))
        answer_to(control, op)
        expect_answer(control, Ttl("a"), math.inf, f"{name} without a time takes the time away")
    answer_to(control, Put("a", b"1", ttl_s=1.0))
    answer_to(control, Claim("a", b"1", b"1", 50.0))
    expect((answer_to(control, Ttl("a")) or 0.0) > 1.0, "a claim that leaves the value as it is renews its time")
    answer_to(control, Claim("a", b"other", b"1", 500.0))
    expect((answer_to(control, Ttl("a")) or 0.0) <= 50.0, "a claim that fails leaves the time alone")
    answer_to(control, Put("count", b"1", ttl_s=50.0))
    answer_to(control, Incr("count"))
    expect(answer_to(control, Ttl("count")) != math.inf, "a counter keeps its time")


def changes_are_hinted(subject: ControlSubject) -> None:
    control, other = subject.control, subject.connect()
    changes: dict[str, Callable[[int], object]] = {
        "watched/value": lambda number: answer_to(other, Put("watched/value", b"%d" % number)),
        "watched/list": lambda number: answer_to(other, Append("watched/list", b"%d" % number)),
        "watched/count": lambda number: answer_to(other, Incr("watched/count")),
        "watched/stream": lambda number: answer_to(other, StreamAppend("watched/stream", b"x")),
        "watched/claim": lambda number: answers_to(
            other, [Claim("watched/claim", None, b"x"), Delete("watched/claim")]
        ),
    }
    seen: list[str] = []
    end = control.subscribe("watched/", seen.append)
    try:
        for key, change in changes.items():
            # A hint may be lost, so the change is made again until one arrives.
            counter = iter(range(10**6))

            def hinted(key: str = key, change: Callable[[int], object] = change, counter: object = counter) -> bool:
                change(next(counter))  # type: ignore[call-overload]
                sleep(0.01)
                control.deliver()
                return key in seen

            eventually(hinted, f"a change of {key!r} is hinted to subscribers of its prefix")
        answer_to(other, Put("elsewhere", b"x"))
        sleep(0.05)
        control.deliver()
        expect_equal(set(seen) - set(changes), set(), "only changes under the prefix are hinted")
    finally:
        end()
        other.close()


def a_subscription_ends(subject: ControlSubject) -> None:
    seen: list[str] = []
    end = subject.control.subscribe("a", seen.append)
    answer_to(subject.control, Put("a", b"x"))
    sleep(0.05)
    end()
    end()
    seen.clear()
    for number in range(10):
        answer_to(subject.control, Put("a", b"%d" % number))
    sleep(0.1)
    subject.control.deliver()
    expect_equal(seen, [], "no hint comes once the subscription has ended")


def a_subscriber_may_fail_or_ask(subject: ControlSubject) -> None:
    control = subject.control
    asked: list[Any] = []
    heard = threading.Event()

    def asks(key: str) -> None:
        control.ask(Get(key), asked.append)
        heard.set()

    def fails(key: str) -> None:
        raise RuntimeError(f"told of {key!r}, as the check wants")

    ends = [control.subscribe("a", fails), control.subscribe("a", asks)]

    def change() -> bool:
        try:
            answer_to(control, Put("a", b"1"))
            control.deliver()
        except Exception as error:
            expect(False, f"a subscriber that fails does not disturb others: {error!r}")
        return heard.wait(0.01) and bool(asked)

    try:
        eventually(change, "a subscriber may ask, and one that fails does not silence the others")
        expect_equal(asked[0], b"1", "a hint comes after its change")
    finally:
        for end in ends:
            end()


REQUIRED: tuple[Check, ...] = (
    keys_end_with_their_time,
    the_time_that_is_left_is_told,
    what_replaces_a_value_replaces_its_time,
    changes_are_hinted,
    a_subscription_ends,
    a_subscriber_may_fail_or_ask,
)
