"""Damaged blobs: a ValueError, or the error of whatever is rebuilt; never a crash, a hang or a huge allocation."""

from __future__ import annotations

import os
import pickle
import random
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray.serialization import deserialize, deserialize_copy, serialize
from ray.serialization.blob import split

#: Cases of each fuzz; RAY_TEST_FUZZ sets another number.
CASES = int(os.environ.get("RAY_TEST_FUZZ", "20000"))
MAX_ALLOCATION = 1 << 20
HEADER = struct.Struct("<BBBBIQ")

VALUES: list[Any] = [
    [np.arange(10), np.zeros(3), b"x" * 50],
    {"a": np.ones((4, 4)), "b": memoryview(b"some bytes")},
    np.arange("2020-01", "2020-03", dtype="M8[D]"),
    [np.zeros(0), np.zeros(1)],
]
BLOBS = [serialize(value).to_bytes() for value in VALUES]
INTERESTING = [0, 1, 2, 7, 63, 64, 65, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]


def header_size(blob: bytes) -> int:
    return HEADER.size + 8 * int(HEADER.unpack_from(blob)[4])


def damaged(rng: random.Random) -> bytes:
    """A blob whose header (or length) is not what it was."""
    blob = bytearray(rng.choice(BLOBS))
    size_of_header = header_size(bytes(blob))
    fields = (0, 1), (1, 1), (2, 1), (3, 1), (4, 4), (8, 8), *((at, 8) for at in range(16, size_of_header, 8))
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        way = rng.randrange(4)
        if way == 0 and len(blob) > 1:
            del blob[rng.randrange(len(blob)) :]
        elif way == 1:
            blob += bytes(rng.randrange(200))
        elif way == 2 and blob:
            blob[rng.randrange(min(len(blob), size_of_header))] = rng.randrange(256)
        else:
            at, size = rng.choice(fields)
            if at + size <= len(blob):
                old = int.from_bytes(blob[at : at + size], "little")
                new = rng.choice([*INTERESTING, old + rng.randrange(-100, 100)])
                blob[at : at + size] = (new % 256**size).to_bytes(size, "little")
    return bytes(blob)


def test_damaged_headers() -> None:
    rng = random.Random(20260801)
    refused = opened = 0
    tracemalloc.start()
    try:
        for _ in range(CASES):
            blob = damaged(rng)
            if blob[:1] == b"\x80":
                continue  # a plain pickle now, which has no header
            try:
                stream, buffers, _ = split(blob)
            except ValueError:
                refused += 1
                with pytest.raises(ValueError):
                    deserialize(blob)
                continue
            assert len(stream) + sum(map(len, buffers)) <= len(blob)
            try:
                deserialize(blob)
                opened += 1
            except (ValueError, pickle.UnpicklingError):
                refused += 1  # numpy: a buffer has another size; pickle: there is another number of them
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MAX_ALLOCATION
    assert refused > CASES * 0.9
    assert opened < CASES * 0.05


@pytest.mark.parametrize("blob", BLOBS, ids=range(len(BLOBS)))
def test_every_bit_of_the_header(blob: bytes) -> None:
    """One flipped bit of a header is always found, except the one that says whether buffers were read-only."""
    for bit in range(8 * header_size(blob)):
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << bit % 8
        if bit == 16:
            deserialize(bytes(changed))
            continue
        with pytest.raises((ValueError, pickle.UnpicklingError)):
            deserialize(bytes(changed))
        with pytest.raises((ValueError, pickle.UnpicklingError)):
            deserialize_copy(memoryview(bytes(changed)))


@pytest.mark.parametrize("blob", BLOBS, ids=range(len(BLOBS)))
def test_every_cut(blob: bytes) -> None:
    for length in range(len(blob)):
        with pytest.raises(ValueError):
            deserialize(blob[:length])
    with pytest.raises(ValueError, match=f"has {len(blob) + 1} bytes where its header says {len(blob)}"):
        deserialize(blob + b"\x00")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_anything_else_is_refused(data: bytes) -> None:
    for blob in (b"\x01\x01\x00\x00" + data, b"\x00" + data, b"\x01" + data, b"\x01\x01" + data):
        with pytest.raises(ValueError):
            deserialize(blob)
        with pytest.raises(ValueError):
            deserialize_copy(blob)


def test_header_that_claims_the_most() -> None:
    tracemalloc.start()
    try:
        for count, length in ((2**32 - 1, 0), (2**32 - 1, 2**64 - 1), (1, 2**64 - 1), (1, 2**63), (0, 100)):
            with pytest.raises(ValueError):
                deserialize(HEADER.pack(1, 1, 0, 0, count, length) + bytes(1000))
        blob = (
            HEADER.pack(1, 1, 0, 0, 3, 2) + struct.pack("<3Q", 2**64 - 1, 2**64 - 1, 2**64 - 1) + b"\x80." + bytes(64)
        )
        with pytest.raises(ValueError, match="cut short"):
            deserialize(blob)
        assert tracemalloc.get_traced_memory()[1] < MAX_ALLOCATION
    finally:
        tracemalloc.stop()
    for empty in (b"", memoryview(b"")):
        with pytest.raises(ValueError, match="cut short: 0 bytes"):
            deserialize(empty)
