"""Units and credits: whatever goes in comes out, and nothing that a peer may send does harm."""

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray.exceptions import RemoteProtocolError
from ray_transport_zmq import credit, wire
from ray_transport_zmq.credit import ReceiveWindow, SendWindow
from ray_transport_zmq.incoming import is_newer
from ray_transport_zmq.sockets import HWM


@pytest.fixture(autouse=True)
def nothing_left():
    """Nothing is opened here: the look at all processes of the machine would take longer than the tests."""


def decode(assembler, units):
    """Messages that come out."""
    messages = []
    for nbytes, parts in units:
        assert nbytes == len(parts[-1])
        assert all(len(part) <= wire.MAX_PART_BYTES for part in parts)
        if parts[0][0] == wire.PIECE:
            assembler, message = assembler.piece(memoryview(bytes(parts[1])))
        else:
            (data,) = parts
            assembler, message = assembler.head(data)
        messages.append(message)
    return messages


SMALL, TOGETHER, PIECE = wire.SMALL_BYTES, wire.TOGETHER_BYTES, wire.PIECE_BYTES
SIZES = [
    [0],
    [1],
    [SMALL],
    [SMALL + 1],
    [PIECE - 1],
    [PIECE],
    [PIECE + 1],
    [2 * PIECE],
    [0, 0],
    [5, SMALL + 1, 0, 2 * PIECE + 3, 7],
    [SMALL] * 4,
    [SMALL] * 6,
    [PIECE, PIECE],
    [1] * wire.MAX_FRAMES,
]


@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: str(sizes[:6]))
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_messages_come_out_as_they_went_in(sizes, kind):
    frames = [kind(os.urandom(min(size, 64)) * (size // 64 + 1))[:size] for size in sizes]
    *before, last = decode(wire.Assembler(), wire.encode(frames))
    assert before == [None] * len(before)
    assert len(last) == len(frames)
    assert all(bytes(out) == bytes(given) for out, given in zip(last, frames, strict=True))


def test_large_frames_are_not_copied_on_their_way_out():
    frame = bytearray(PIECE + 10)
    _, first, second = wire.encode([b"head", frame])
    frame[0], frame[PIECE] = 1, 2
    assert (first[1][1][0], second[1][1][0]) == (1, 2)


def test_arrays_of_numbers_travel_as_bytes():
    view = memoryview(b"x" * 64).cast("d")
    ((_, (data,)),) = wire.encode([view])
    assert wire.Assembler().head(data)[1] == [b"x" * 64]


@settings(max_examples=120, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=6), max_size=8))
def test_any_messages_follow_each_other(messages):
    assembler = wire.Assembler()
    seen = [out for frames in messages for out in decode(assembler, wire.encode(frames))]
    assert seen == messages


def test_nothing_that_arrives_does_harm():
    """20,000 damaged units, to decoders in any state: a message, or the error that ends the connection."""
    chance = random.Random(7)
    valid = [wire.encode([b"x" * 100])[0], *wire.encode([b"a", b"b" * 70_000, b"c" * 100])]
    errors = messages = 0
    assembler = wire.Assembler()
    for _ in range(20_000):
        parts = chance.choice(valid)[1]
        data = bytearray(parts[-1])
        for _ in range(chance.choice((0, 1, 1, 3))):
            data[chance.randrange(min(len(data), 40))] = chance.choice((0, 1, 2, 127, 128, 255))
        if chance.random() < 0.3:
            del data[chance.randrange(1, len(data)) :]
        take = assembler.piece if len(parts) == 2 else assembler.head
        try:
            assembler, message = take(memoryview(data) if len(parts) == 2 else bytes(data))
        except RemoteProtocolError:
            errors += 1
            assembler = wire.Assembler()
        else:
            messages += message is not None
    assert errors > 1000
    assert messages > 1000


@pytest.mark.parametrize(
    "data",
    [
        b"\x01",
        b"\x01\0\0\0\0",
        b"\x01\xff\xff\xff\xff",
        b"\x01\x01\0\0\0" + b"\xff" * 8,
        b"\x01\x01\0\0\0" + b"\0" * 7 + b"\x80",
        b"\x01\x01\0\0\0" + b"\x05" + b"\0" * 7 + b"1234",
        b"\x01\x01\0\0\0" + b"\x03" + b"\0" * 7 + b"1234",
    ],
    ids=["short", "no frame", "too many", "too large", "empty piece", "too little", "too much"],
)
def test_heads_that_are_wrong_are_refused(data):
    with pytest.raises(RemoteProtocolError):
        wire.Assembler().head(data)


def test_pieces_are_refused_unless_due():
    with pytest.raises(RemoteProtocolError, match="no message"):
        wire.Assembler().piece(memoryview(b"x"))
    assembler = wire.Assembler()
    head, piece = wire.encode([bytes(70_000)])
    assembler, message = assembler.head(head[1][0])
    assert message is None
    with pytest.raises(RemoteProtocolError, match="inside"):
        assembler.head(head[1][0])
    with pytest.raises(RemoteProtocolError, match="piece of 69999 bytes"):
        assembler.piece(memoryview(piece[1][1])[:-1])


# --- credits --------------------------------------------------------------------------------------


def test_zeromq_never_comes_to_its_limit():
    """It learns in steps of half its limit that messages have left; the credits under way come on top."""
    assert credit.WINDOW_UNITS + 4 <= HWM // 2


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["send", "take", "credit", "repeat"]), st.integers(0, 3 * PIECE))))
def test_the_window_is_never_exceeded_and_opens_again(steps):
    """Credits may be late, repeated or out of order."""
    sender, receiver = SendWindow(), ReceiveWindow()
    way, credits_under_way, all_credits = [], [], []
    units = 0
    for step, size in steps:
        if step == "send" and sender.is_open:
            sender.sent(size)
            way.append(size)
            units += 1
        elif step == "take" and way and receiver.taken(way.pop(0)):
            credits_under_way.append(receiver.credit())
            all_credits.append(credits_under_way[-1])
        elif step == "credit" and credits_under_way:
            sender.credited(credits_under_way.pop(size % len(credits_under_way)))
        elif step == "repeat" and all_credits:
            sender.credited(all_credits[size % len(all_credits)])
        assert len(way) <= credit.WINDOW_UNITS
        assert sum(way[:-1]) < credit.WINDOW_BYTES
    for size in way:
        if receiver.taken(size):
            sender.credited(receiver.credit())
    for each in credits_under_way:
        sender.credited(each)
    assert sender.is_open


def test_a_stream_never_stops_for_want_of_credit():
    for size in (1, 1000, wire.SMALL_BYTES, PIECE):
        sender, receiver = SendWindow(), ReceiveWindow()
        way = []
        for _ in range(2000):
            while sender.is_open:
                sender.sent(size)
                way.append(size)
            assert way
            if receiver.taken(way.pop(0)):
                sender.credited(receiver.credit())


@pytest.mark.parametrize("data", [b"", b"x" * 15, b"\xff" * 16, b"\x01" + b"\0" * 15])
def test_credits_for_what_was_not_sent_are_refused(data):
    with pytest.raises(RemoteProtocolError):
        SendWindow().credited(data)


def test_ids_that_are_newer() -> None:
    """ZeroMQ counts from anywhere, and begins again after the largest number."""
    first, second, last = (b"\0" + number.to_bytes(4, "big") for number in (0, 1, (1 << 32) - 1))
    assert is_newer(second, first)
    assert not is_newer(first, second)
    assert not is_newer(first, first)
    assert is_newer(first, last)
    assert not is_newer(last, first)
    assert is_newer(b"its own", first)
