"""What every control store must do with streams. Each check raises ``ContractViolationError``."""

from __future__ import annotations

from typing import Any

from ray.abc.control import ControlStore
from ray.abc.control_operations import Delete, StreamAppend, StreamPart, StreamRead
from ray.testing.contracts._asking import Check, ControlSubject, answer_to, answers_to, expect_answer
from ray.testing.contracts._expect import expect, expect_equal, on_threads


def _part(control: ControlStore, op: StreamRead) -> StreamPart:
    part = answer_to(control, op)
    expect(isinstance(part, StreamPart), f"a stream is read as a StreamPart, not {part!r}")
    return part


def _values(part: StreamPart) -> list[bytes]:
    return [value for _, value in part.entries]


def streams_keep_their_order(subject: ControlSubject) -> None:
    control = subject.control
    values = [b"%d" % number for number in range(50)] + [b"", b"\0\xff"]
    ids = answers_to(control, [StreamAppend("s", value) for value in values])
    expect(all(isinstance(id, str) and id for id in ids), "the id of an entry is a text")
    expect_equal(len(set(ids)), len(values), "each entry has an id of its own")
    part = _part(control, StreamRead("s"))
    expect_equal(part.entries, list(zip(ids, values, strict=True)), "a stream has what was appended, oldest first")
    expect_equal(part.newest, ids[-1], "the newest id is told")
    expect_equal(part.gap, False, "nothing is missing")
    part = _part(control, StreamRead("missing"))
    expect_equal((part.entries, part.newest, part.gap), ([], "", False), "a stream that is not there is empty")


def streams_are_read_on(subject: ControlSubject) -> None:
    control = subject.control
    ids = answers_to(control, [StreamAppend("s", b"%d" % number) for number in range(25)])
    seen: list[bytes] = []
    after = ""
    for _ in range(9):
        part = _part(control, StreamRead("s", after, 3))
        expect(1 <= len(part.entries) <= 3, f"a read gives as many as it is to, not {len(part.entries)}")
        expect_equal((part.newest, part.gap), (ids[-1], False), "the newest id is told, and nothing is missing")
        seen += _values(part)
        after = part.entries[-1][0]
    expect_equal(seen, [b"%d" % number for number in range(25)], "reading on gives each entry once, in order")
    part = _part(control, StreamRead("s", after))
    expect_equal((part.entries, part.newest, part.gap), ([], after, False), "there is nothing after the newest")
    answer_to(control, StreamAppend("s", b"more"))
    expect_equal(_values(_part(control, StreamRead("s", after))), [b"more"], "what is appended then is read next")


def streams_drop_their_oldest(subject: ControlSubject) -> None:
    """A store may keep more than it has to, so it is told often enough."""
    control = subject.control
    first = answer_to(control, StreamAppend("s", b"first", 10))
    second = answer_to(control, StreamAppend("s", b"second", 10))
    values = [b"%d" % number for number in range(2000)]
    ids: list[Any] = []
    for begin in range(0, len(values), 100):
        ids += answers_to(control, [StreamAppend("s", value, 10) for value in values[begin : begin + 100]])
    part = _part(control, StreamRead("s", "", 5000))
    expect(10 <= len(part.entries) < 1000, f"a stream is bounded: of 2002 entries it has {len(part.entries)}, not 10")
    expect_equal(_values(part), values[-len(part.entries) :], "the oldest entries are dropped")
    expect_equal(part.gap, False, "a reader that has read nothing misses nothing")
    part = _part(control, StreamRead("s", first, 5000))
    expect_equal(part.gap, True, "a reader that goes on is told that entries are gone")
    expect_equal(_values(part), values[-len(part.entries) :], "a reader that goes on is given what is left")
    expect_equal(_part(control, StreamRead("s", second)).gap, True, "a reader is told that entries are gone")
    expect_equal(_part(control, StreamRead("s", ids[-3])).gap, False, "a reader that has read the rest misses nothing")


def a_deleted_stream_begins_anew(subject: ControlSubject) -> None:
    control = subject.control
    ids = answers_to(control, [StreamAppend("s", b"%d" % number) for number in range(5)])
    expect_answer(control, Delete("s"), True, "a stream can be deleted")
    expect_equal(_part(control, StreamRead("s")).entries, [], "a deleted stream is empty")
    again = answer_to(control, StreamAppend("s", b"again"))
    expect(again not in ids, "an id does not come again")
    expect_equal(
        _values(_part(control, StreamRead("s", ids[-1]))), [b"again"], "what knows the old one reads the new one"
    )


def nothing_streamed_is_lost(subject: ControlSubject) -> None:
    answers: list[Any] = []

    def append(index: int) -> None:
        for number in range(50):
            subject.control.ask(StreamAppend("s", b"%d %d" % (index, number)), answers.append)

    on_threads(4, append, "any thread may ask")
    part = _part(subject.control, StreamRead("s"))
    expect_equal(len(set(answers)), 200, "each entry has an id of its own")
    seen = [tuple(map(int, value.split())) for value in _values(part)]
    for index in range(4):
        mine = [number for client, number in seen if client == index]
        expect_equal(mine, list(range(50)), "the entries of each thread are all there, in its order")


REQUIRED: tuple[Check, ...] = (
    streams_keep_their_order,
    streams_are_read_on,
    streams_drop_their_oldest,
    a_deleted_stream_begins_anew,
    nothing_streamed_is_lost,
)
