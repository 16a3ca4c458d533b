"""What every control store must do with values, counters and lists. Each check raises ``ContractViolationError``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.abc.control import ControlStore
from ray.abc.control_operations import (
    Append,
    Claim,
    Commit,
    Delete,
    Expire,
    Get,
    Incr,
    Items,
    Keys,
    Operation,
    Put,
    StreamAppend,
    StreamRead,
)
from ray.clock import sleep
from ray.exceptions import ControlKindError, ControlStoreError
from ray.testing.contracts._asking import Check, ControlSubject, answer_to, answers_to, expect_answer
from ray.testing.contracts._expect import eventually, expect, expect_equal, on_threads


def values_are_read_back(subject: ControlSubject) -> None:
    control = subject.control
    for key, value in {"a": b"1", "a/b:c": b"", "ключ *?[x]": bytes(range(256)), "big": b"x" * 1_000_000}.items():
        expect_answer(control, Put(key, value), True, "a put tells that it stored")
        expect_answer(control, Get(key), value, "a get answers the bytes that were put")
    answer_to(control, Put("a", b"2"))
    expect_answer(control, Get("a"), b"2", "a put replaces")
    expect_answer(control, Get("missing"), None, "a get of a key that is free is answered None")


def put_can_spare_what_is_there(subject: ControlSubject) -> None:
    control = subject.control
    expect_answer(control, Put("a", b"1", False), True, "a put without overwrite stores under a free key")
    expect_answer(control, Put("a", b"2", False), False, "a put without overwrite tells that the key is taken")
    expect_answer(control, Get("a"), b"1", "a put without overwrite spares what is there")
    answer_to(control, Put("empty", b""))
    expect_answer(control, Put("empty", b"x", False), False, "an empty value is a value")
    answer_to(control, Append("list", b"1"))
    expect_answer(control, Put("list", b"x", False), False, "a key that holds a list is taken")
    expect_answer(control, Items("list"), [b"1"], "a put without overwrite spares lists")
    expect_answer(control, Put("list", b"x"), True, "a put replaces whatever the key holds")
    expect_answer(control, Get("list"), b"x", "a put replaces whatever the key holds")


def _winners(subject: ControlSubject, key: str, ops: Callable[[int], Operation[bool]]) -> None:
    won: dict[int, Any] = {}
    control = subject.control
    rule = "any thread may ask"
    on_threads(8, lambda index: control.ask(ops(index), lambda answer: won.__setitem__(index, answer)), rule)

    def all_answered() -> bool:
        control.deliver()
        return len(won) == 8

    eventually(all_answered, "what is asked is answered")
    winners = [index for index, answer in won.items() if answer is True]
    expect_equal(len(winners), 1, "of many that ask for a key at once, exactly one gets it")
    expect_answer(control, Get(key), b"%d" % winners[0], "the value is that of the one that got it")


def one_of_many_puts_a_key(subject: ControlSubject) -> None:
    for key in ("name-1", "name-2", "name-3"):
        _winners(subject, key, lambda index, key=key: Put(key, b"%d" % index, False))  # type: ignore[misc]


def one_of_many_claims_a_key(subject: ControlSubject) -> None:
    for key in ("name-1", "name-2", "name-3"):
        _winners(subject, key, lambda index, key=key: Claim(key, None, b"%d" % index))  # type: ignore[misc]
        answer_to(subject.control, Put(key, b"old"))
        _winners(subject, key, lambda index, key=key: Claim(key, b"old", b"%d" % index))  # type: ignore[misc]


def a_claim_compares_and_sets(subject: ControlSubject) -> None:
    control = subject.control
    expect_answer(control, Claim("a", b"x", b"1"), False, "a claim of a free key with an old value fails")
    expect_answer(control, Get("a"), None, "a claim that fails changes nothing")
    expect_answer(control, Claim("a", None, b"1"), True, "a claim of a free key succeeds where it is to be free")
    expect_answer(control, Claim("a", None, b"2"), False, "a claim that wants a free key fails where it is taken")
    expect_answer(control, Claim("a", b"", b"2"), False, "an empty value is not the same as a free key")
    expect_answer(control, Claim("a", b"2", b"3"), False, "a claim with another old value fails")
    expect_answer(control, Get("a"), b"1", "a claim that fails changes nothing")
    expect_answer(control, Claim("a", b"1", b"1"), True, "a claim may leave the value as it is")
    expect_answer(control, Claim("a", b"1", b"2"), True, "a claim with the right old value succeeds")
    expect_answer(control, Get("a"), b"2", "a claim sets the new value")
    expect_answer(control, Claim("a", b"1", None), False, "a claim frees a key only with the right old value")
    expect_answer(control, Claim("a", b"2", None), True, "a claim frees a key")
    expect_answer(control, Put("a", b"1", False), True, "a key that a claim has freed is free")


def several_keys_are_written_in_one_step(subject: ControlSubject) -> None:
    control = subject.control
    for key in ("right", "old", "gone"):
        answer_to(control, Put(key, b"1"))
    done = Commit(
        "right", b"1", (Claim("old", b"1", b"2"), Claim("new", None, b"3")), (Put("put", b"4"), Delete("gone"))
    )
    expect_answer(control, done, [], "a commit is answered with the keys that hold something else")
    for key, value in {"right": b"1", "old": b"2", "new": b"3", "put": b"4", "gone": None}.items():
        expect_answer(control, Get(key), value, "a commit writes and frees all its keys")
    freed = Commit("right", b"1", (Claim("old", b"2", None),))
    expect_answer(control, freed, [], "a claim of a commit may free its key")
    expect_answer(control, Keys(""), ["new", "put", "right"], "keys that a commit has freed are free")


def a_commit_is_whole_or_not_at_all(subject: ControlSubject) -> None:
    control = subject.control
    for key in ("right", "a"):
        answer_to(control, Put(key, b"1"))
    for held, old, other in (
        (b"0", b"1", ["right"]),
        (b"1", b"0", ["a"]),
        (b"1", None, ["a"]),
        (b"0", b"0", ["right", "a"]),
    ):
        op = Commit("right", held, (Claim("b", None, b"2"), Claim("a", old, b"2")), (Put("c", b"2"), Delete("right")))
        answer = answer_to(control, op)
        expect_equal(
            sorted(answer), sorted(other), "a commit that cannot be done names the keys that hold something else"
        )
        expect_answer(control, Keys(""), ["a", "right"], "a commit that cannot be done writes nothing")
        expect_answer(control, Get("a"), b"1", "a commit that cannot be done writes nothing")
    expect_answer(control, Commit("free", b"1"), ["free"], "a commit needs what it is held by")
    answer_to(control, Append("list", b"1"))
    answer = answer_to(control, Commit("right", b"1", (Claim("list", None, b"2"),)))
    expect(
        isinstance(answer, ControlKindError), "a commit of a key that holds a list is answered with ControlKindError"
    )


def one_of_many_commits(subject: ControlSubject) -> None:
    answer_to(subject.control, Put("right", b"1"))
    won: dict[int, Any] = {}
    control = subject.control
    rule = "any thread may ask"

    def op(index: int) -> Operation[Any]:
        return Commit("right", b"1", (Claim("name", None, b"%d" % index),), (Put(f"of-{index}", b""),))

    on_threads(8, lambda index: control.ask(op(index), lambda answer: won.__setitem__(index, answer)), rule)

    def all_answered() -> bool:
        control.deliver()
        return len(won) == 8

    eventually(all_answered, "what is asked is answered")
    winners = [index for index, answer in won.items() if answer == []]
    expect_equal(len(winners), 1, "of many that commit with one key at once, exactly one does")
    expect_answer(control, Keys("of-"), [f"of-{winners[0]}"], "only the one that has committed has written")


def counters_count(subject: ControlSubject) -> None:
    control = subject.control
    expect_answer(control, Incr("a"), 1, "a counter begins at 0")
    expect_answer(control, Incr("a", 41), 42, "incr adds")
    expect_answer(control, Incr("a", -43), -1, "incr takes away")
    expect_answer(control, Get("a"), b"-1", "a counter is a value, its decimal text")
    answer_to(control, Put("b", b"%d" % (2**62)))
    expect_answer(control, Incr("b"), 2**62 + 1, "a value that is a whole number is a counter")
    for text in (b"", b" 1", b"01", b"+1", b"1.0", b"x", b"-0", b"%d" % 2**63):
        answer_to(control, Put("c", text))
        _expect_kind(control, Incr("c"), f"incr of {text!r}, which is no counter")
        expect_answer(control, Get("c"), text, "an incr that cannot be done changes nothing")
    answer_to(control, Put("d", b"%d" % (2**63 - 1)))
    _expect_kind(control, Incr("d"), "incr beyond 64 bits")
    expect_answer(control, Get("d"), b"%d" % (2**63 - 1), "an incr that cannot be done changes nothing")


def no_count_is_lost(subject: ControlSubject) -> None:
    """And no number is given twice."""
    counts: list[Any] = []
    other = subject.connect()
    handles = [subject.control, other]

    def count(index: int) -> None:
        for _ in range(25):
            handles[index % 2].ask(Incr("fence"), counts.append)

    on_threads(8, count, "any thread may ask")

    def all_answered() -> bool:
        for handle in handles:
            handle.deliver()
        return len(counts) == 200

    eventually(all_answered, "what is asked is answered")
    other.close()
    expect_equal(sorted(counts), list(range(1, 201)), "of many that count at once, each gets a number of its own")


def delete_frees(subject: ControlSubject) -> None:
    control = subject.control
    answer_to(control, Put("value", b"1"))
    answer_to(control, Append("list", b"1"))
    answer_to(control, StreamAppend("stream", b"1"))
    for key in ("value", "list", "stream"):
        expect_answer(control, Delete(key), True, "a delete tells that the key held something")
        expect_answer(control, Get(key), None, "a deleted key is free")
        expect_answer(control, Delete(key), False, "a delete tells that the key was free")
    expect_answer(control, Items("list"), [], "a deleted list is empty")
    expect_answer(control, Put("value", b"2", False), True, "a deleted key is free")


def keys_are_listed_by_prefix(subject: ControlSubject) -> None:
    control = subject.control
    for key in ("job:2", "job:1", "jobs", "node:1", "job*", "job[1]", "j?b:1", "job:é", "job:\U0001f600", "job:\uffee"):
        answer_to(control, Put(key, b"x"))
    answer_to(control, Append("job:log", b"x"))
    answer_to(control, StreamAppend("job:stream", b"x"))
    wanted = ["job:1", "job:2", "job:log", "job:stream", "job:é", "job:\uffee", "job:\U0001f600"]
    expect_answer(control, Keys("job:"), wanted, "keys of a prefix are listed, whatever they hold, by code points")
    expect_answer(control, Keys("job*"), ["job*"], "a prefix is plain text, not a pattern")
    expect_answer(control, Keys("job["), ["job[1]"], "a prefix is plain text, not a pattern")
    expect_answer(control, Keys("nothing"), [], "no keys are listed where none begins with the prefix")
    expect_equal(len(answer_to(control, Keys(""))), 12, "the empty prefix lists all")
    answer_to(control, Delete("job:1"))
    answer_to(control, Claim("job:2", b"x", None))
    answer_to(control, Expire("job:log", 0.02))
    sleep(0.05)
    expect_answer(control, Keys("job:"), wanted[3:], "keys that are free are not listed")


def lists_keep_their_order(subject: ControlSubject) -> None:
    control = subject.control
    values = [b"%d" % number for number in range(100)] + [b"", b"\0\xff"]
    counts = answers_to(control, [Append("list", value) for value in values])
    expect_equal(counts, list(range(1, len(values) + 1)), "an append tells how many items the list has")
    expect_answer(control, Items("list"), values, "the items are what was appended, oldest first")
    expect_answer(control, Items("missing"), [], "there are no items where there is no list")


def lists_are_bounded(subject: ControlSubject) -> None:
    control = subject.control
    answers_to(control, [Append("list", b"%d" % number, 10) for number in range(50)])
    wanted = [b"%d" % number for number in range(40, 50)]
    expect_answer(control, Items("list"), wanted, "beyond max_items the oldest are dropped")
    expect_answer(control, Append("list", b"x", 3), 3, "a smaller max_items drops more")
    expect_answer(control, Items("list"), [b"48", b"49", b"x"], "a smaller max_items drops more")


def nothing_appended_is_lost(subject: ControlSubject) -> None:
    answers: list[Any] = []

    def append(index: int) -> None:
        for number in range(50):
            subject.control.ask(Append("list", b"%d %d" % (index, number)), answers.append)

    on_threads(4, append, "any thread may ask")

    def all_answered() -> bool:
        subject.control.deliver()
        return len(answers) == 200

    eventually(all_answered, "what is asked is answered")
    seen = [tuple(map(int, item.split())) for item in answer_to(subject.control, Items("list"))]
    for index in range(4):
        mine = [number for client, number in seen if client == index]
        expect_equal(mine, list(range(50)), "the items of each thread are all there, in its order")


def other_kinds_are_refused(subject: ControlSubject) -> None:
    control = subject.control
    answer_to(control, Put("value", b"x"))
    answer_to(control, Append("list", b"x"))
    answer_to(control, StreamAppend("stream", b"x"))
    of_values: list[Callable[[str], Operation[Any]]] = [Get, Incr, lambda key: Claim(key, b"x", b"y")]
    of_lists: list[Callable[[str], Operation[Any]]] = [Items, lambda key: Append(key, b"y")]
    of_streams: list[Callable[[str], Operation[Any]]] = [StreamRead, lambda key: StreamAppend(key, b"y")]
    wrong = [(key, make) for key in ("list", "stream") for make in of_values]
    wrong += [(key, make) for key in ("value", "stream") for make in of_lists]
    wrong += [(key, make) for key in ("value", "list") for make in of_streams]
    for key, make in wrong:
        _expect_kind(control, make(key), f"{type(make(key)).__name__} of a key that holds a {key}")
    expect_answer(control, Get("value"), b"x", "what cannot be done changes nothing")
    expect_answer(control, Items("list"), [b"x"], "what cannot be done changes nothing")


def _expect_kind(control: ControlStore, op: Operation[Any], what: str) -> None:
    answer: Any = None
    try:
        answer = answer_to(control, op)
    except ControlStoreError as error:
        expect(False, f"{what} is answered with an error, and raises nothing: {error!r}")
    expect(isinstance(answer, ControlKindError), f"{what} is answered with a ControlKindError, not {answer!r}")
    expect_equal((answer.operation, answer.key), (type(op).__name__, op.key), "an error says what could not be done")


def handles_share_one_store(subject: ControlSubject) -> None:
    other = subject.connect()
    answer_to(subject.control, Put("a", b"1"))
    expect_answer(other, Get("a"), b"1", "every handle sees what one has put")
    answer_to(other, Append("list", b"x"))
    expect_answer(subject.control, Items("list"), [b"x"], "every handle sees what one has appended")
    other.close()
    expect_answer(subject.control, Get("a"), b"1", "closing a handle leaves the store and the others alone")


REQUIRED: tuple[Check, ...] = (
    values_are_read_back,
    put_can_spare_what_is_there,
    one_of_many_puts_a_key,
    one_of_many_claims_a_key,
    a_claim_compares_and_sets,
    several_keys_are_written_in_one_step,
    a_commit_is_whole_or_not_at_all,
    one_of_many_commits,
    counters_count,
    no_count_is_lost,
    delete_frees,
    keys_are_listed_by_prefix,
    lists_keep_their_order,
    lists_are_bounded,
    nothing_appended_is_lost,
    other_kinds_are_refused,
    handles_share_one_store,
)
