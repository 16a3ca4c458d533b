"""What two processes say to each other over connections that are lost: every message comes, once."""

from __future__ import annotations

import random

import pytest

from ray.abc.transport import Connection
from ray.messages import codec, wire
from ray.protocol import conversations
from ray.protocol.conversations import CONFIRM_BYTES, CONFIRM_MESSAGES, KEPT_BYTES, Conversation, head_of, number_of
from ray.runtime.process.kept_connection import KeptConnection, opened


def said(conversation: Conversation, text: bytes) -> int:
    number = conversation.next()
    conversation.kept[number] = message = (head_of(number) + text,)
    conversation.count(message)
    return number


def test_what_is_confirmed_is_not_kept() -> None:
    one = Conversation(b"1")
    for text in (b"a", b"b", b"c", b"d"):
        said(one, text)
    one.confirmed(1, [3])
    assert one.lacking(1, [3]) == [2, 4]
    one.validate()


class Interrupting(bytes):
    """Has something else done whenever its length is asked for."""

    act = staticmethod(lambda: None)

    def __len__(self) -> int:
        self.act()
        return super().__len__()


def test_what_is_kept_is_counted_whatever_comes_in_between() -> None:
    one = Conversation(b"1")
    text = Interrupting(b"abc")
    one.kept[one.next()] = (text,)
    text.act = lambda: said(one, b"x") if len(one.kept) == 1 else 0
    one.count((text,))
    text.act = lambda: None
    assert list(one.kept) == [1, 2]
    one.validate()
    text.act = lambda: one.confirmed(2)
    one.confirmed(1)
    assert list(one.kept) == []
    one.validate()


def test_what_comes_twice_is_taken_once() -> None:
    other = Conversation(b"1")
    for number in (1, 3, 1, 2, 3):
        other.take(number, 1)
    assert [number for number in range(1, 6) if other.is_new(number)] == [4, 5]
    assert other.heard() == (3, [])
    other.take(6, 1)
    assert other.heard() == (3, [6])
    other.validate()


def test_it_is_time_to_confirm() -> None:
    other = Conversation(b"1")
    assert [other.take(number, 1) for number in range(1, CONFIRM_MESSAGES + 1)] == [False] * (CONFIRM_MESSAGES - 1) + [
        True
    ]
    other.heard()
    assert not other.has_news
    assert other.take(CONFIRM_MESSAGES + 1, CONFIRM_BYTES)


def test_too_much_is_not_kept() -> None:
    """The conversation goes on as long as the connection does; after it was lost, only if the other end has that."""
    one = Conversation(b"1")
    said(one, bytes(KEPT_BYTES // 2))
    said(one, bytes(KEPT_BYTES // 2))
    one.validate()
    assert (one.forgotten, list(one.kept)) == (1, [2])
    assert one.lacking(0, []) is None
    assert one.lacking(1, []) == [2]
    said(one, bytes(KEPT_BYTES))
    assert (one.lacking(2, []), one.lacking(3, [])) == (None, [])
    one.validate()


def test_only_what_is_known_at_the_other_end_has_to_be_known_there() -> None:
    one = Conversation(b"1")
    said(one, b"a")
    assert not one.is_known
    one.confirmed(0)
    assert one.is_known


def test_messages_of_other_kinds_have_no_number() -> None:
    encoded = codec.encode(wire.Forgotten())
    assert (number_of(encoded), opened((encoded,))) == (0, (0, (encoded,)))
    assert opened((head_of(7) + encoded, b"more")) == (7, (encoded, b"more"))
    assert opened((head_of(7),)) == (7, ())


class Wire(Connection):
    """A real connection: what was sent arrives in order, and may be lost at any point with all that follows."""

    def __init__(self) -> None:
        self.under_way: list[tuple[bytes, ...]] = []

    def send(self, frames) -> None:  # type: ignore[no-untyped-def]
        if not self.closed:
            self.under_way.append(tuple(frames))

    def close(self) -> None:
        self.closed = True

    abort = close
    queued_bytes = 0


class End:
    """A process, as far as it speaks to another one."""

    def __init__(self) -> None:
        self.out, self.sent, self.heard = Wire(), 0, []  # type: ignore[var-annotated]
        self.talk = KeptConnection(Conversation(b"id"), self.out)
        self.timers: list[object] = []

    def say(self) -> None:
        self.sent += 1
        self.talk.send([b"%d" % self.sent])

    def take(self, frames: tuple[bytes, ...], timers: list[object]) -> None:
        number, message = opened(frames)
        if not number:
            got = codec.decode(message)
            assert isinstance(got, wire.Got)
            self.talk.conversation.confirmed(got.have, got.ahead)
        elif self.talk.took(number, frames, lambda delay_s, then: timers.append(then)) and message:
            self.heard.append(int(message[0]))


@pytest.mark.parametrize(
    "seed", [*range(100), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(100, 300))]
)
def test_everything_comes_once_and_in_order(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the connection is lost, and whatever is lost with it, in either direction."""
    rng = random.Random(seed)
    monkeypatch.setattr(conversations, "CONFIRM_MESSAGES", 3)
    ends, timers = (End(), End()), []  # type: ignore[var-annotated]
    for _ in range(400):
        turn, one = rng.random(), rng.randrange(2)
        here, there = ends[one], ends[1 - one]
        if turn < 0.4:
            here.say()
        elif turn < 0.8:
            if here.out.under_way:
                there.take(here.out.under_way.pop(0), timers)
        elif turn < 0.9:
            if timers:
                timers.pop(0)()
        elif here.talk.is_open:
            for end in ends:
                end.talk.break_off(0.0)
        else:
            _meet(*ends)
        for end in ends:
            end.talk.conversation.validate()
    if not ends[0].talk.is_open:
        _meet(*ends)
    for _ in range(3):
        for here, there in (ends, ends[::-1]):
            while here.out.under_way:
                there.take(here.out.under_way.pop(0), timers)
        while timers:
            timers.pop()()
    for here, there in (ends, ends[::-1]):
        assert there.heard == list(range(1, here.sent + 1))
        assert not here.talk.conversation.kept, "all is confirmed"


def _meet(dials: End, accepts: End) -> None:
    """One of them dials anew, and both go on."""
    again = dials.talk.again()
    for end in (dials, accepts):
        end.out = Wire()
    assert accepts.talk.go_on(accepts.out, again.have, again.ahead, answers=True)
    (answer,) = accepts.out.under_way.pop(0)
    resumed = codec.decode((answer,))
    assert isinstance(resumed, wire.GoesOn)
    assert dials.talk.go_on(dials.out, resumed.have, resumed.ahead, answers=False)


def test_a_call_that_interrupts_the_sender_leaves_no_number_out() -> None:
    """It has sent what was about to be sent: the other end waits for that number in vain otherwise."""
    end = End()
    frames: list[bytes | None] = [b"1"]

    class Interrupted(list):  # type: ignore[type-arg]
        def __getitem__(self, place):  # type: ignore[no-untyped-def]
            return super().__getitem__(place)

    number = end.talk.conversation.next

    def interrupted() -> int:
        made = number()
        frames[0] = None
        return made

    end.talk.conversation.next = interrupted
    end.talk.send(frames)  # type: ignore[arg-type]
    assert [opened(message) for message in end.out.under_way] == [(1, ())]
