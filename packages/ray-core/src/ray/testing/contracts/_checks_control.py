"""What every control store must do. Each check takes a ``ControlSubject`` and raises ``ContractViolationError``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ray.abc.control import ControlStore
from ray.clock import sleep
from ray.testing.contracts._expect import eventually, expect, expect_equal, on_threads


@dataclass(frozen=True)
class ControlSubject:
    """A fresh, empty control store."""

    control: ControlStore
    connect: Callable[[], ControlStore]
    """Opens one more handle on the same store; the check closes it."""


Check: TypeAlias = Callable[[ControlSubject], None]


def values_are_read_back(subject: ControlSubject) -> None:
    control = subject.control
    for key, value in {"a": b"1", "a/b:c": b"", "ключ *?[x]": bytes(range(256)), "big": b"x" * 1_000_000}.items():
        expect_equal(control.put(key, value), True, "put tells that it stored")
        expect_equal(control.get(key), value, "get returns the bytes that were put")
    control.put("a", b"2")
    expect_equal(control.get("a"), b"2", "put replaces")
    expect_equal(control.get("missing"), None, "get returns None for a key that is not there")


def put_can_spare_what_is_there(subject: ControlSubject) -> None:
    control = subject.control
    expect_equal(control.put("a", b"1", overwrite=False), True, "put without overwrite stores under a free key")
    expect_equal(control.put("a", b"2", overwrite=False), False, "put without overwrite tells that the key is taken")
    expect_equal(control.get("a"), b"1", "put without overwrite spares what is there")
    control.put("empty", b"")
    expect_equal(control.put("empty", b"x", overwrite=False), False, "an empty value is a value")


def one_of_many_claims_a_key(subject: ControlSubject) -> None:
    for key in ("name-1", "name-2", "name-3"):
        won: list[int] = []

        def claim(index: int, key: str = key, won: list[int] = won) -> None:
            if subject.control.put(key, b"%d" % index, overwrite=False):
                won.append(index)

        on_threads(8, claim, "a control store serves several threads")
        expect_equal(len(won), 1, "of many that put without overwrite, exactly one stores")
        expect_equal(subject.control.get(key), b"%d" % won[0], "the value is that of the one who stored")


def delete_removes(subject: ControlSubject) -> None:
    control = subject.control
    control.put("a", b"1")
    control.append("list", b"1")
    expect_equal(control.delete("a"), True, "delete tells that the key existed")
    expect_equal(control.get("a"), None, "a deleted key is gone")
    expect_equal(control.delete("a"), False, "delete tells that the key did not exist")
    expect_equal(control.delete("list"), True, "delete removes lists")
    expect_equal(control.items("list"), [], "a deleted list is empty")
    expect_equal(control.put("a", b"2", overwrite=False), True, "a deleted key is free")


def keys_are_listed_by_prefix(subject: ControlSubject) -> None:
    control = subject.control
    for key in ("job:2", "job:1", "jobs", "node:1", "job*", "job[1]", "j?b:1"):
        control.put(key, b"x")
    control.append("job:log", b"x")
    expect_equal(control.keys("job:"), ["job:1", "job:2", "job:log"], "keys lists keys and lists of a prefix, sorted")
    expect_equal(control.keys("job*"), ["job*"], "a prefix is plain text, not a pattern")
    expect_equal(control.keys("job["), ["job[1]"], "a prefix is plain text, not a pattern")
    expect_equal(control.keys("nothing"), [], "keys is empty where nothing starts with the prefix")
    expect_equal(len(control.keys("")), 8, "the empty prefix lists everything")


def lists_keep_their_order(subject: ControlSubject) -> None:
    control = subject.control
    values = [b"%d" % number for number in range(100)] + [b"", b"\0\xff"]
    for value in values:
        control.append("list", value)
    expect_equal(control.items("list"), values, "items returns what was appended, oldest first")
    expect_equal(control.items("missing"), [], "items is empty where there is no list")


def lists_are_bounded(subject: ControlSubject) -> None:
    for number in range(50):
        subject.control.append("list", b"%d" % number, max_items=10)
    wanted = [b"%d" % number for number in range(40, 50)]
    expect_equal(subject.control.items("list"), wanted, "beyond max_items the oldest are dropped")
    subject.control.append("list", b"x", max_items=3)
    expect_equal(subject.control.items("list"), [b"48", b"49", b"x"], "a smaller max_items drops more")


def nothing_appended_is_lost(subject: ControlSubject) -> None:
    def append(index: int) -> None:
        for number in range(50):
            subject.control.append("list", b"%d %d" % (index, number))

    on_threads(4, append, "a control store serves several threads")
    seen = [tuple(map(int, item.split())) for item in subject.control.items("list")]
    for index in range(4):
        mine = [number for who, number in seen if who == index]
        expect_equal(mine, list(range(50)), "each thread's items are all there, in its order")


def handles_share_one_store(subject: ControlSubject) -> None:
    other = subject.connect()
    subject.control.put("a", b"1")
    expect_equal(other.get("a"), b"1", "every handle sees what one has put")
    other.append("list", b"x")
    expect_equal(subject.control.items("list"), [b"x"], "every handle sees what one has appended")
    other.close()
    expect_equal(subject.control.get("a"), b"1", "closing a handle leaves the store and the others alone")


def changes_are_hinted(subject: ControlSubject) -> None:
    control, other = subject.control, subject.connect()
    changes: dict[str, Callable[[int], object]] = {
        "watched/value": lambda number: other.put("watched/value", b"%d" % number),
        "watched/list": lambda number: other.append("watched/list", b"%d" % number),
        "watched/gone": lambda number: other.put("watched/gone", b"x") and other.delete("watched/gone"),
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
                return key in seen

            eventually(hinted, f"a change of {key!r} is hinted to subscribers of its prefix")
        other.put("elsewhere", b"x")
        sleep(0.05)
        expect_equal(set(seen) - set(changes), set(), "only changes under the prefix are hinted")
    finally:
        end()
        other.close()


def a_subscription_ends(subject: ControlSubject) -> None:
    seen: list[str] = []
    end = subject.control.subscribe("a", seen.append)
    end()
    end()
    sleep(0.05)
    seen.clear()
    for number in range(10):
        subject.control.put("a", b"%d" % number)
    sleep(0.1)
    expect_equal(seen, [], "no hint comes once the subscription has ended")


def a_subscriber_may_fail_or_ask(subject: ControlSubject) -> None:
    control = subject.control
    asked: list[bytes | None] = []
    heard = threading.Event()

    def asks(key: str) -> None:
        asked.append(control.get(key))
        heard.set()

    def fails(key: str) -> None:
        raise RuntimeError(f"told of {key!r}, as the check wants")

    ends = [control.subscribe("a", fails), control.subscribe("a", asks)]

    def change() -> bool:
        try:
            control.put("a", b"1")
        except Exception as error:
            expect(False, f"a subscriber that fails does not disturb who makes the change: {error!r}")
        return heard.wait(0.01)

    try:
        eventually(change, "a subscriber may use the store, and one that fails does not silence the others")
        expect_equal(asked[0], b"1", "a hint comes after its change")
    finally:
        for end in ends:
            end()


def close_is_idempotent(subject: ControlSubject) -> None:
    other = subject.connect()
    other.subscribe("a", lambda _: None)
    try:
        other.close()
        other.close()
    except Exception as error:
        expect(False, f"close can be called again: {error!r}")


REQUIRED: tuple[Check, ...] = (
    values_are_read_back,
    put_can_spare_what_is_there,
    one_of_many_claims_a_key,
    delete_removes,
    keys_are_listed_by_prefix,
    lists_keep_their_order,
    lists_are_bounded,
    nothing_appended_is_lost,
    handles_share_one_store,
    changes_are_hinted,
    a_subscription_ends,
    a_subscriber_may_fail_or_ask,
    close_is_idempotent,
)
