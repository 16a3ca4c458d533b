"""Values in messages: in place or in frames of their own; what is no message is an error."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray.exceptions import RemoteProtocolError
from ray.messages import codec, wire
from ray.messages.codec import OUT_OF_BAND_BYTES, attach, decode, detach, encode


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 100, OUT_OF_BAND_BYTES - 1, OUT_OF_BAND_BYTES, OUT_OF_BAND_BYTES + 1]),
            st.sampled_from([bytes, bytearray, memoryview]),
        ),
        max_size=6,
    )
)
def test_values_come_back_in_any_mixture(values: list[Any]) -> None:
    data = [kind(bytes([i]) * size) for i, (size, kind) in enumerate(values)]
    frames: list[Any] = [b""]
    fields = [attach(item, frames) for item in data]
    frames[0] = encode(wire.Replies([wire.Done(b"id", True, fields)]))
    assert len(frames[0]) < 200 + sum(len(item) for item in data if len(item) < OUT_OF_BAND_BYTES)
    message = decode(frames)
    back = [detach(field, frames) for field in message.done[0].values]
    assert [bytes(item) for item in back] == [bytes(item) for item in data]
    for sent, field, received in zip(data, fields, back, strict=True):
        if len(sent) >= OUT_OF_BAND_BYTES:
            assert received is sent
            assert frames[field] is sent
        else:
            assert type(field) is bytes


def test_small_bytes_are_not_copied() -> None:
    data = b"small"
    assert attach(data, [b""]) is data


def test_large_values_go_behind_the_frames_that_are_there() -> None:
    large = bytes(OUT_OF_BAND_BYTES)
    frames = [b"", b"another"]
    assert attach(large, frames) == 2
    assert attach(large, frames) == 3
    assert frames[2] is frames[3] is large


@pytest.mark.parametrize("index", [1, 2, 2**31, 2**63])
def test_missing_frames_are_an_error(index: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"frame {index} of 1"):
        detach(index, [b""])


@pytest.mark.parametrize(
    "frames",
    [
        [], [b""], [b"\xc0"], [b"\x90"], [b"\x91\x01"], [b"\x92\xcd\x03\xe7\x00"], [b"\x93\x08\xc0\xc0"],
        [msgspec.msgpack.encode({"id": b"x"})], [encode(wire.Fetch(b"x"))[:-1]], [encode(wire.Fetch(b"x")) + b"\x00"],
        [msgspec.msgpack.encode([8, "text where bytes belong"])], [b"\x92\x08\xd9\x04\xff\xff\xff\xff"],
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_message(frames: list[bytes]) -> None:
    with pytest.raises(RemoteProtocolError, match="undecodable message"):
        decode(frames)


def test_views_are_decoded_like_bytes() -> None:
    data = encode(wire.Fetch(b"some id"))
    for frame in (data, bytearray(data), memoryview(data)):
        message = decode([frame])
        assert message == wire.Fetch(b"some id")
        assert type(message.id) is bytes


def test_damaged_messages_are_errors_or_messages() -> None:
    rng = random.Random(20260803)
    ref = wire.Ref(b"i" * 20, "unix:/x")
    task = wire.Task(b"t" * 20, b"f" * 16, b"args", deps=[wire.Dependency("k", b"data", b"d" * 20, "o", [ref])])
    good = [encode(wire.Push([task])), encode(wire.Fetched(b"i" * 20, 1, b"data", [ref])), encode(wire.Recall())]
    for _ in range(20_000):
        data = bytearray(rng.choice(good))
        for _ in range(rng.randint(1, 3)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data) + 1) :]
        try:
            message = decode([bytes(data)])
        except RemoteProtocolError:
            continue
        assert isinstance(message, wire.Struct)
        assert decode([codec.encode(message)]) == message or message != message  # NaN
