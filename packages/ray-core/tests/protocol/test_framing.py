"""Messages survive any cut of the stream; what is no message is refused."""

from __future__ import annotations

import random
import struct

import pytest

from ray.exceptions import RemoteProtocolError
from ray.messages import codec
from ray.protocol.framing import IN_PLACE_BYTES, MAX_FRAMES, MAX_HEAD_BYTES, NOTHING, head, take, take_large

SIZES = [0, 1, 100, 4084, 4096, 5000, IN_PLACE_BYTES - 1, IN_PLACE_BYTES, 300_000, (1 << 20) + 1]


def feed(data: bytes, chance: random.Random, most: int) -> list[list[bytes]]:
    messages = []
    state = NOTHING
    view = memoryview(data)
    while view:
        count = min(len(view), chance.randint(1, most))
        if state.large is not None and chance.random() < 0.5:
            filled = state.large.filled[0]
            count = min(count, len(state.large.memory) - filled)
            state.large.memory[filled : filled + count] = view[:count]
            state.large.filled.append(filled + count)
            found = []
            if filled + count == len(state.large.memory):
                state, found = take_large(state)
        else:
            chunk = bytes(view[:count])
            if chance.random() < 0.5:
                take(state, chunk)  # by a call that another one forestalls
            state, found = take(state, chunk)
        messages += [[bytes(frame) for frame in message] for message in found]
        view = view[count:]
    return messages


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 40))])
def test_any_cut_gives_the_same_messages(seed):
    chance = random.Random(seed)
    sent = [
        [chance.randbytes(chance.choice(SIZES)) for _ in range(chance.choice([1, 1, 1, 2, 5]))]
        for _ in range(chance.randint(1, 12))
    ]
    stream = b"".join(head(frames) + b"".join(frames) for frames in sent)
    assert feed(stream, chance, chance.choice([7, 1000, 70_000, 1 << 20])) == sent


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<IQ", 0, 10),
        struct.pack("<IQ", MAX_FRAMES + 1, 10),
        struct.pack("<IQ", 1, MAX_HEAD_BYTES + 1),
        struct.pack("<IQQ", 2, 10, 1 << 63),
        struct.pack("<IQQ", 2, 1, (1 << 42) - 1) + b"x" * 10,
    ],
    ids=["no frames", "too many frames", "long head", "impossible frame", "frame beyond memory"],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(RemoteProtocolError):
        feed(data, random.Random(0), 100)


def test_undecodable_messages_are_refused():
    chance = random.Random(1)
    for _ in range(20_000):
        try:
            codec.decode([chance.randbytes(chance.randint(0, 40))])
        except RemoteProtocolError:
            continue
